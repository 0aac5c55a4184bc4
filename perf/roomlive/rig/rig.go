// Package rig runs a waiting room for measurements as an operator would: a Redis server, queue and edge processes of the program on one
// configuration, and an origin. Everything listens on loopback, and every process can be killed, stopped and started again.
package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Options describe an installation with one room.
type Options struct {
	Binary  string         // of the program; empty: built from this module
	Consul  string         // http://host:port of the Consul that keeps the settings
	Room    map[string]any // settings of the room, as under `rooms` in the configuration
	Edges   int
	Queues  int
	Origin  string         // http://host:port
	AOFSync string         // appendfsync of Redis: always (the default), everysec or no
	Config  map[string]any // further top-level sections of the configuration
}

// RoomName is the room of every rig.
const RoomName = "live"

// Rig is a running installation. Its methods are for one goroutine.
type Rig struct {
	Dir    string // logs, keys, Redis' files
	Redis  *Process
	Edges  []*Process
	Queues []*Process

	redisAddress string
	public       []string // listeners of the edges
	internal     []string // and of the queues
	spawn        *spawner
}

// New builds the program and starts everything. After an error nothing is left running, and Dir is kept for its logs.
func New(ctx context.Context, o Options) (*Rig, error) {
	dir, err := os.MkdirTemp("", "stanchion-room-")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	r := &Rig{Dir: dir, spawn: newSpawner()}
	if err := r.start(ctx, o); err != nil {
		r.Stop()
		return nil, fmt.Errorf("%w (logs in %s)", err, dir)
	}
	return r, nil
}

// Build builds the program into dir.
func Build(ctx context.Context, dir string) (binary string, err error) {
	binary = filepath.Join(dir, "stanchion")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/stanchion-queue/stanchion/cmd/stanchion")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return binary, nil
}

func (r *Rig) start(ctx context.Context, o Options) error {
	consul, err := url.Parse(o.Consul)
	if err != nil || consul.Host == "" {
		return fmt.Errorf("consul %q: want http://host:port", o.Consul)
	}
	binary := o.Binary
	if binary == "" {
		if binary, err = Build(ctx, r.Dir); err != nil {
			return err
		}
	}
	if out, err := exec.CommandContext(ctx, binary, "keys", "init", filepath.Join(r.Dir, "keys")).CombinedOutput(); err != nil {
		return fmt.Errorf("make keys: %w\n%s", err, out)
	}
	if r.Redis, r.redisAddress, err = startRedis(ctx, r.spawn, r.Dir, o.AOFSync); err != nil {
		return err
	}
	if r.public, err = FreeAddresses(o.Edges); err != nil {
		return err
	}
	if r.internal, err = FreeAddresses(o.Queues); err != nil {
		return err
	}
	var peers []string
	for _, a := range r.internal {
		peers = append(peers, "http://"+a)
	}
	room := map[string]any{"host": "127.0.0.1"}
	maps.Copy(room, o.Room)
	all := map[string]any{
		"keys": map[string]any{"dir": filepath.Join(r.Dir, "keys")},
		"stores": map[string]any{
			"rooms":     map[string]any{"engine": "redis", "addresses": []string{r.redisAddress}},
			"settings":  map[string]any{"engine": "consul", "prefix": "rig/" + uuid.NewString(), "consul": map[string]any{"address": consul.Host}},
			"discovery": map[string]any{"peers": map[string]any{"queue": peers}},
		},
		"upstreams": map[string]any{"origin": map[string]any{"targets": []string{o.Origin}}},
		"rooms":     map[string]any{RoomName: room},
		"routes":    []any{map[string]any{"paths": []string{"/*"}, "upstream": "origin", "room": RoomName}},
	}
	maps.Copy(all, o.Config)
	doc, err := json.MarshalIndent(all, "", "  ") // JSON is YAML
	if err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	config := filepath.Join(r.Dir, "config.yaml")
	if err := os.WriteFile(config, doc, 0o600); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	operations, err := FreeAddresses(o.Edges + o.Queues)
	if err != nil {
		return err
	}
	role := func(name, role, operations string, listener string) *Process {
		return &Process{
			Name: name, spawn: r.spawn, path: binary, log: filepath.Join(r.Dir, name+".log"), env: environment(),
			args:  []string{role, "--config=" + config, "--node=" + name, "--listeners.operations.address=" + operations, "--data_dir=" + filepath.Join(r.Dir, name), listener},
			ready: func(ctx context.Context) error { return get(ctx, "http://"+operations+"/readyz", nil) },
		}
	}
	for i, a := range r.internal {
		r.Queues = append(r.Queues, role(fmt.Sprintf("queue%d", i), "queue", operations[i], "--listeners.internal.address="+a))
	}
	for i, a := range r.public {
		r.Edges = append(r.Edges, role(fmt.Sprintf("edge%d", i), "edge", operations[o.Queues+i], "--listeners.public.address="+a))
	}
	for _, p := range append(append([]*Process{}, r.Queues...), r.Edges...) {
		if err := p.Start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// environment is ours without the variables that the program would take for settings.
func environment() (env []string) {
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "STANCHION_") {
			env = append(env, e)
		}
	}
	return env
}

// Targets are the base URLs of the edges.
func (r *Rig) Targets() (urls []string) {
	for _, a := range r.public {
		urls = append(urls, "http://"+a)
	}
	return urls
}

// RedisAddress is host:port.
func (r *Rig) RedisAddress() string { return r.redisAddress }

// Leader is the queue process that leads the room.
func (r *Rig) Leader(ctx context.Context) (*Process, error) {
	for i, a := range r.internal {
		var live struct {
			Leading bool `json:"leading"`
		}
		if err := get(ctx, "http://"+a+"/internal/v1/rooms/"+RoomName+"/live", &live); err == nil && live.Leading {
			return r.Queues[i], nil
		}
	}
	return nil, errors.New("no queue process leads the room")
}

// Status reads the public status object from one edge.
func (r *Rig) Status(ctx context.Context, edge int, v any) error {
	return get(ctx, r.Targets()[edge]+"/.stanchion/rooms/"+RoomName+"/status", v)
}

// Record reads a line's published record.
func (r *Rig) Record(ctx context.Context, id string, v any) error {
	return get(ctx, r.Targets()[0]+"/.stanchion/rooms/"+RoomName+"/lines/"+id+"/record", v)
}

// Stop kills all processes. It may be called again.
func (r *Rig) Stop() {
	for _, p := range append(append(append([]*Process{}, r.Edges...), r.Queues...), r.Redis) {
		if p != nil {
			p.Kill()
		}
	}
	r.spawn.close()
}

// Remove deletes the folder.
func (r *Rig) Remove() error { return os.RemoveAll(r.Dir) }

var client = &http.Client{Timeout: 2 * time.Second}

func get(ctx context.Context, url string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	if v == nil {
		return nil
	}
	var body bytes.Buffer
	if _, err := body.ReadFrom(http.MaxBytesReader(nil, resp.Body, 4<<20)); err != nil {
		return fmt.Errorf("GET %s: %w", url, err)
	}
	if err := json.Unmarshal(body.Bytes(), v); err != nil {
		return fmt.Errorf("GET %s: %w", url, err)
	}
	return nil
}

// FreeAddresses finds n loopback addresses that nobody listens on.
func FreeAddresses(n int) (addresses []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close() // all at the end, so that no port is found twice
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}
