package main

import (
	"context"
	"fmt"
	"strings"
)

const redisVersion = "7 of Debian"

// Every answered write is on disk, and a full server refuses writes and never
// drops a key: what Stanchion asks of Redis in production.
const redisConf = `
bind 127.0.0.1
protected-mode no
daemonize no
loglevel warning
save ""
appendonly yes
appendfsync always
maxmemory 1gb
maxmemory-policy noeviction
`

var redisTools = []tool{{"redis-server", "redis-server"}, {"redis-cli", "redis-tools"}}

func (s site) redis() engine {
	const port = "16390"
	return engine{
		name:      "redis",
		version:   redisVersion,
		dir:       s.run("redis"),
		needs:     redisTools,
		listens:   []string{"127.0.0.1:" + port},
		files:     map[string]string{"redis.conf": redisConf + "port " + port + "\n"},
		processes: []process{{name: "redis", argv: []string{"redis-server", "redis.conf"}}},
		ready:     func(ctx context.Context) error { return redisSays(ctx, "PONG", port, "ping") },
		env:       []variable{{"STANCHION_TEST_REDIS", "127.0.0.1:" + port}},
	}
}

// redisSays asks one server something and expects the answer to contain want.
func redisSays(ctx context.Context, want, port string, command ...string) error {
	text, err := output(ctx, "", append([]string{"redis-cli", "-h", "127.0.0.1", "-p", port}, command...)...)
	if err != nil {
		return err
	}
	if !strings.Contains(text, want) {
		return fmt.Errorf("port %s answers %s with %q", port, strings.Join(command, " "), tail(text, 3))
	}
	return nil
}
