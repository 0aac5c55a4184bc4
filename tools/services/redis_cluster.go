package main

import (
	"context"
	"strings"
)

// redisCluster is three masters without replicas: enough to hold every key in
// one of several hash slot ranges, which is what clients get wrong.
func (s site) redisCluster() engine {
	ports := []string{"16401", "16402", "16403"}
	e := engine{
		name:    "redis-cluster",
		version: redisVersion,
		dir:     s.run("redis-cluster"),
		needs:   redisTools,
		files:   map[string]string{},
	}
	for _, port := range ports {
		name := "node-" + port
		e.files[name+".conf"] = redisConf + redisFiles(name, port) +
			"cluster-enabled yes\ncluster-config-file " + name + "-nodes.conf\ncluster-node-timeout 2000\ncluster-require-full-coverage no\n"
		e.processes = append(e.processes, process{name: name, argv: []string{"redis-server", name + ".conf"}})
		e.listens = append(e.listens, "127.0.0.1:"+port, "127.0.0.1:2"+port[1:]) // the bus listens 10,000 above
	}
	all := func(ctx context.Context, want string, command ...string) error {
		for _, port := range ports {
			if err := redisSays(ctx, want, port, command...); err != nil {
				return err
			}
		}
		return nil
	}
	var addresses []string
	for _, port := range ports {
		addresses = append(addresses, "127.0.0.1:"+port)
	}
	e.setup = func(ctx context.Context) error {
		err := until(ctx, func(ctx context.Context) error { return all(ctx, "PONG", "ping") })
		if err != nil {
			return err
		}
		create := append([]string{"redis-cli", "--cluster", "create"}, addresses...)
		_, err = output(ctx, e.dir, append(create, "--cluster-replicas", "0", "--cluster-yes")...)
		return err
	}
	e.ready = func(ctx context.Context) error { return all(ctx, "cluster_state:ok", "cluster", "info") }
	e.env = []variable{{"STANCHION_TEST_REDIS_CLUSTER", strings.Join(addresses, ",")}}
	return e
}
