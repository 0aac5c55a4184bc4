package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
)

// consul is built from source: its module files in consul/ pin every line of
// it. The build takes minutes, its result is kept.
func (s site) consul() engine {
	const host = "127.0.0.1:"
	const api, rpc, lan, wan = "18501", "18502", "18503", "18504"
	module := filepath.Join(s.root, "tools", "services", "consul")
	binary := filepath.Join(s.kept("consul"), "consul-"+moduleSum(module))
	e := engine{
		name:    "consul",
		version: "1.11.11",
		dir:     s.run("consul"),
		listens: []string{host + api, host + rpc, host + lan, host + wan},
		processes: []process{{name: "consul", argv: []string{binary, "agent", "-dev", "-datacenter", "dc1", "-node", "dc1-1",
			"-http-port", api, "-server-port", rpc, "-serf-lan-port", lan, "-serf-wan-port", wan,
			"-grpc-port", "-1", "-dns-port", "-1", "-log-level", "warn"}}},
		ready: func(ctx context.Context) error { return consulLeads(ctx, "http://"+host+api) },
		env:   []variable{{"STANCHION_TEST_CONSUL", "http://" + host + api}},
	}
	e.obtain = func(ctx context.Context) error {
		if _, err := os.Stat(binary); err == nil {
			return nil
		}
		// At low priority: the other engines start meanwhile.
		_, err := output(ctx, module, "nice", "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "github.com/hashicorp/consul")
		return err
	}
	return e
}

// moduleSum names a build by what went into it.
func moduleSum(module string) string {
	sums, err := os.ReadFile(filepath.Join(module, "go.sum"))
	if err != nil {
		return "unknown" // the build will say what is wrong with the module
	}
	return fmt.Sprintf("%x", sha256.Sum256(append(sums, runtime.Version()...)))[:12]
}

func consulLeads(ctx context.Context, base string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v1/status/leader", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var leader string
	if err := json.NewDecoder(response.Body).Decode(&leader); err != nil {
		return err
	}
	if leader == "" {
		return errors.New("no leader is elected yet")
	}
	return nil
}
