package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/stanchion-queue/stanchion/perf/roomlive/rig"
)

func redisClient(address string) (rueidis.Client, error) {
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{address}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		return nil, fmt.Errorf("connect to redis: %w", err)
	}
	return c, nil
}

// startOurs starts one edge and one controller. Every check of the edge is on; only the limits per network are raised, since a few
// connections play all fans.
func startOurs(ctx context.Context, o options, dir string) (*contender, error) {
	r, err := rig.New(ctx, rig.Options{
		Binary: o.binary, Consul: o.consul, Edges: 1, Queues: 1, Origin: "http://127.0.0.1:1",
		Room: map[string]any{"mode": "queue-all", "cap": 1, "first_lease_s": 600, "idle_s": 3600, "stay_max_s": 7200,
			"join_limits": map[string]any{"network_per_second": 100_000, "network_burst": 1_000_000}},
		Config: map[string]any{"edge": map[string]any{"network_per_second": 1_000_000, "network_burst": 1_000_000}},
	})
	if err != nil {
		return nil, err
	}
	c := &contender{name: "ours", processes: append(append([]*rig.Process{r.Redis}, r.Edges...), r.Queues...), scripts: true}
	c.stop = func() {
		if c.redis != nil {
			c.redis.Close()
		}
		r.Stop()
		_ = r.Remove() // a folder in the system's place for such
	}
	if c.redis, err = redisClient(r.RedisAddress()); err != nil {
		c.stop()
		return nil, err
	}
	room := "/.stanchion/rooms/" + rig.RoomName
	cookie := "stanchion-ticket-" + rig.RoomName
	c.pump = newPump(strings.TrimPrefix(r.Targets()[0], "http://"), o.connections)
	c.join = []move{{
		request: func(string) call { return call{method: "POST", path: room + "/join", json: "{}"} },
		response: func(a answer) (string, error) {
			ticket := a.cookie(cookie)
			if err := a.want(200); err != nil {
				return "", err
			}
			if ticket == "" {
				return "", errors.New("join brought no ticket")
			}
			return ticket, nil
		},
	}}
	c.status = move{
		request: func(ticket string) call {
			return call{method: "GET", path: room + "/place", cookie: cookie + "=" + ticket}
		},
		response: func(a answer) (string, error) { return a.cookie(cookie), a.want(200) },
	}
	c.shared = &move{
		request:  func(string) call { return call{method: "GET", path: room + "/status"} },
		response: func(a answer) (string, error) { return "", a.want(200) },
	}
	if err := occupy(ctx, c, room, cookie); err != nil {
		c.stop()
		return nil, err
	}
	// For a minute after a grant, scripts look at each second since.
	c.settled = time.Now().Add(62 * time.Second)
	return c, nil
}

// occupy takes the room's only place, so that everybody else waits.
func occupy(ctx context.Context, c *contender, room, cookie string) error {
	claim := move{
		request: func(ticket string) call {
			return call{method: "POST", path: room + "/claim", cookie: cookie + "=" + ticket, json: "{}"}
		},
		response: func(a answer) (string, error) { return "", a.want(200) },
	}
	ticket := ""
	deadline := time.Now().Add(30 * time.Second)
	for {
		var err error
		if ticket == "" { // the room may still be starting
			ticket, err = c.pump.do(0, c.join[0], "")
		} else if _, err = c.pump.do(0, claim, ticket); err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("take the only place: %w", err)
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// The peer's settings: those of its documentation, but for the delay before a number is given, which is as short as it allows, and the
// number of fans it lets in, which is as low as it allows, so that all wait.
const (
	peerDelayS   = 1
	peerSettings = `log_level = "error"
listener = %q
public_host = %[1]q
permitted_access_sec = 600
entry_delay_sec = %[2]d
queue_enable_sec = 3600
permit_interval_sec = 60
permit_unit_number = 1
cache_ttl_sec = 20
negative_cache_ttl_sec = 10
`
)

// startPeer starts the peer's binary on a Redis of its own.
func startPeer(ctx context.Context, o options, dir string) (*contender, error) {
	redis, address, err := rig.NewRedis(ctx, dir)
	if err != nil {
		return nil, err
	}
	c := &contender{name: "peer", processes: []*rig.Process{redis}}
	c.stop = func() {
		if c.redis != nil {
			c.redis.Close()
		}
		for _, p := range c.processes {
			p.Kill()
		}
	}
	fail := func(err error) (*contender, error) {
		c.stop()
		return nil, fmt.Errorf("the peer: %w", err)
	}
	if c.redis, err = redisClient(address); err != nil {
		return fail(err)
	}
	free, err := rig.FreeAddresses(1)
	if err != nil {
		return fail(err)
	}
	settings := filepath.Join(dir, "peer.toml")
	if err := os.WriteFile(settings, fmt.Appendf(nil, peerSettings, free[0], peerDelayS), 0o600); err != nil {
		return fail(err)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fail(err)
	}
	server := rig.Other("peer", dir, o.peer, []string{"server", "--config", settings, "--listener", free[0], "--log-level", "error"}, []string{"REDIS_HOST=" + host, "REDIS_PORT=" + port},
		func(ctx context.Context) error { return answers(ctx, "http://"+free[0]+"/status") })
	c.processes = append(c.processes, server)
	if err := server.Start(ctx); err != nil {
		return fail(err)
	}
	const domain, cookie = "bench.example", "waiting-room"
	c.pump = newPump(free[0], o.connections)
	number := func(a answer, want bool) (string, error) {
		if err := a.want(http.StatusTooManyRequests); err != nil {
			return "", err
		}
		var doc struct {
			No int64 `json:"serial_no"`
		}
		if err := json.Unmarshal(a.body, &doc); err != nil {
			return "", fmt.Errorf("read the answer: %w", err)
		}
		ticket := a.cookie(cookie)
		if want && doc.No == 0 || ticket == "" {
			return "", fmt.Errorf("number %s, cookie of %d characters", strconv.FormatInt(doc.No, 10), len(ticket))
		}
		return ticket, nil
	}
	get := func(ticket string) call {
		q := call{method: "GET", path: "/queues/" + domain}
		if ticket != "" {
			q.cookie = cookie + "=" + ticket
		}
		return q
	}
	c.join = []move{
		{request: get, response: func(a answer) (string, error) { return number(a, false) }},
		{request: get, response: func(a answer) (string, error) { return number(a, true) }, wait: (peerDelayS + 2) * time.Second},
	}
	c.status = move{request: get, response: func(a answer) (string, error) {
		if a.status == http.StatusOK { // one fan a minute is let in
			return "", nil
		}
		return number(a, true)
	}}
	// The first request switches the domain's queue on.
	if _, err := c.pump.do(0, move{request: func(string) call { return call{method: "GET", path: "/queues/" + domain + "/enable"} },
		response: func(a answer) (string, error) { return number(a, false) }}, ""); err != nil {
		return fail(err)
	}
	return c, nil
}

func answers(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}
