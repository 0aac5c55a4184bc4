package main

import (
	"context"
	"fmt"
	"strings"
)

const sentinelMaster = "m1"

// redisSentinel is a primary, a replica and three Sentinels with a quorum of
// two: the smallest group that survives the loss of any one process.
func (s site) redisSentinel() engine {
	const primary, replica = "16381", "16382"
	sentinels := []string{"16391", "16392", "16393"}

	e := engine{
		name:    "redis-sentinel",
		version: redisVersion,
		dir:     s.run("redis-sentinel"),
		needs:   redisTools,
		files: map[string]string{
			"primary.conf": redisConf + redisFiles("primary", primary),
			"replica.conf": redisConf + redisFiles("replica", replica) + "replicaof 127.0.0.1 " + primary + "\n",
		},
		processes: []process{
			{name: "primary", argv: []string{"redis-server", "primary.conf"}},
			{name: "replica", argv: []string{"redis-server", "replica.conf"}},
		},
		listens: []string{"127.0.0.1:" + primary, "127.0.0.1:" + replica},
	}
	// A Sentinel asks the primary for its replicas at its start, and then only
	// every ten seconds: let it find the replica at the first look.
	following := func(ctx context.Context) error {
		return redisSays(ctx, "master_link_status:up", replica, "info", "replication")
	}
	var addresses []string
	for _, port := range sentinels {
		name := "sentinel-" + port
		e.files[name+".conf"] = fmt.Sprintf(`
bind 127.0.0.1
protected-mode no
port %s
loglevel warning
sentinel monitor %[2]s 127.0.0.1 %[3]s 2
sentinel down-after-milliseconds %[2]s 1000
sentinel failover-timeout %[2]s 4000
sentinel parallel-syncs %[2]s 1
`, port, sentinelMaster, primary)
		e.processes = append(e.processes, process{name: name, argv: []string{"redis-server", name + ".conf", "--sentinel"}, after: following})
		addresses = append(addresses, "127.0.0.1:"+port)
	}
	e.listens = append(e.listens, addresses...)

	// Ready is: every Sentinel knows of all three and of the replica, so that a
	// failover would succeed from now on.
	e.ready = func(ctx context.Context) error {
		for _, port := range sentinels {
			if err := redisSays(ctx, "OK 3 usable", port, "sentinel", "ckquorum", sentinelMaster); err != nil {
				return err
			}
			if err := redisSays(ctx, "master-link-status\nok", port, "sentinel", "replicas", sentinelMaster); err != nil {
				return err
			}
		}
		return nil
	}
	e.env = []variable{
		{"STANCHION_TEST_REDIS_SENTINELS", strings.Join(addresses, ",")},
		{"STANCHION_TEST_REDIS_SENTINEL_MASTER", sentinelMaster},
	}
	return e
}

// redisFiles lets several servers share one folder.
func redisFiles(name, port string) string {
	return fmt.Sprintf("port %s\ndbfilename %s.rdb\nappenddirname %[2]s-aof\nrepl-diskless-sync-delay 0\n", port, name)
}
