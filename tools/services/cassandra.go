package main

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gocql/gocql"
)

var (
	//go:embed cassandra/pom.xml
	cassandraPom string
	//go:embed cassandra/jars.sha256
	cassandraSums string
	//go:embed cassandra/cassandra.yaml
	cassandraYaml string
	//go:embed cassandra/jvm.opts
	cassandraOptions string
	//go:embed cassandra/modules.opts
	cassandraModules string
	//go:embed cassandra/logback.xml
	cassandraLog string
)

// cassandra is one node. It listens on a loopback address of its own, so that
// more nodes and data centres can stand beside it on the same ports.
func (s site) cassandra() engine {
	const ip, dc = "127.0.0.11", "dc1"
	const port, gossip, jmx = "19242", "17200", "17291"
	kept := s.kept("cassandra-5.0.5")
	lib := filepath.Join(kept, "lib")
	e := engine{
		name:    "cassandra",
		version: "5.0.5",
		dir:     s.run("cassandra"),
		needs:   javaTools,
		listens: []string{ip + ":" + port, ip + ":" + gossip, "127.0.0.1:" + jmx},
		env: []variable{
			{"STANCHION_TEST_CASSANDRA", ip + ":" + port},
			{"STANCHION_TEST_CASSANDRA_DC", dc},
		},
	}
	e.files = map[string]string{
		"cassandra.yaml":              fill(cassandraYaml, "DIR", e.dir, "IP", ip, "PORT", port, "GOSSIP", gossip),
		"cassandra-rackdc.properties": "dc=" + dc + "\nrack=r1\n",
		"jvm.opts":                    fill(cassandraOptions, "DIR", e.dir, "JMX", jmx),
		"modules.opts":                cassandraModules,
		"logback.xml":                 cassandraLog,
	}
	java := func(extra ...string) []string {
		argv := append([]string{java17, "@modules.opts", "@jvm.opts"}, extra...)
		return append(argv, "-cp", lib+"/*", "org.apache.cassandra.service.CassandraDaemon")
	}
	archive := filepath.Join(kept, "classes.jsa")
	e.processes = []process{{name: "cassandra", argv: java("-XX:SharedArchiveFile="+archive, "-Xshare:auto")}}

	e.ready = func(ctx context.Context) error { return cqlAnswers(ctx, ip, port, dc) }
	e.obtain = func(ctx context.Context) error {
		if err := fetchJars(ctx, cassandraPom, cassandraSums, lib); err != nil {
			return err
		}
		return s.archiveClasses(ctx, e, java, archive)
	}
	return e
}

// archiveClasses starts the server once to let Java write its loaded classes to
// a file, which saves a quarter of every later start. The file fits one Java
// build only, so it is written again after an upgrade.
func (s site) archiveClasses(ctx context.Context, e engine, java func(...string) []string, archive string) error {
	version, err := output(ctx, "", java17, "-version")
	if err != nil {
		return err
	}
	stamp := fmt.Sprintf("%x\n", sha256.Sum256([]byte(version+cassandraSums+strings.Join(java(), " "))))
	if have, err := os.ReadFile(archive + ".for"); err == nil && string(have) == stamp {
		return nil
	}
	trial := e
	trial.dir = s.run("cassandra") // the same folder: its configuration names it
	trial.processes = []process{{name: "archiving", argv: java("-XX:ArchiveClassesAtExit=" + archive), quit: syscall.SIGTERM}}
	if err := s.start(ctx, trial); err != nil {
		return fmt.Errorf("first start: %w", err)
	}
	if _, err := s.bringDown(ctx, trial); err != nil {
		return err
	}
	if _, err := os.Stat(archive); err != nil {
		return fmt.Errorf("no class archive was written: %w\n%s", err, lastLines(trial.processes[0].logFile(trial.dir), 12))
	}
	return os.WriteFile(archive+".for", []byte(stamp), 0o644)
}

// cqlAnswers is a whole client session: it connects, agrees on a protocol and
// reads which data centre the node believes to be in.
func cqlAnswers(ctx context.Context, ip, port, dc string) error {
	cluster := gocql.NewCluster(ip + ":" + port)
	cluster.Consistency = gocql.One
	cluster.ConnectTimeout, cluster.Timeout = 3*time.Second, 3*time.Second
	cluster.DisableInitialHostLookup = true
	cluster.Logger = quiet{}
	session, err := cluster.CreateSession()
	if err != nil {
		return err
	}
	defer session.Close()
	var got string
	if err := session.Query("SELECT data_center FROM system.local").WithContext(ctx).Scan(&got); err != nil {
		return err
	}
	if got != dc {
		return fmt.Errorf("the node is in data centre %q", got)
	}
	return nil
}

// quiet drops what the driver prints about a server that is still starting.
type quiet struct{}

func (quiet) Print(...any)          {}
func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}
