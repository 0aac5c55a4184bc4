package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	postgresBin  = "/usr/lib/postgresql/15/bin/"
	postgresUser = "postgres"
)

// Every acknowledged commit is on disk and autovacuum runs, as in production;
// only the sizes are those of a test.
const postgresConf = `
listen_addresses = '127.0.0.1'
port = %s
unix_socket_directories = ''
shared_buffers = 64MB
max_connections = 100
max_wal_size = 256MB
log_min_messages = warning
fsync = %s
synchronous_commit = %[2]s
full_page_writes = %[2]s
`

func (s site) postgres() engine {
	const port = "15532"
	e := engine{
		name:    "postgres",
		version: "15 of Debian",
		dir:     s.run("postgres"),
		needs:   []tool{{postgresBin + "postgres", "postgresql-15"}, {"psql", "postgresql-client-15"}},
		listens: []string{"127.0.0.1:" + port},
		env:     []variable{{"STANCHION_TEST_POSTGRES", "postgres://" + postgresUser + "@127.0.0.1:" + port + "/postgres?sslmode=disable"}},
	}
	wait := "on"
	if !s.fsync {
		wait = "off"
		e.version += ", without fsync"
	}
	e.files = map[string]string{"postgresql.conf": fmt.Sprintf(postgresConf, port, wait)}

	data := s.postgresData(e.dir)
	server := process{name: "postgres", user: postgresUser, home: data, quit: syscall.SIGQUIT} // SIGQUIT: stop now, children too
	server.argv = []string{postgresBin + "postgres", "-D", data}
	e.processes = []process{server}

	e.prepare = func(ctx context.Context) error {
		if err := freshFolder(data, nil); err != nil {
			return err
		}
		if os.Getuid() == 0 {
			uid, gid, err := account(postgresUser)
			if err != nil {
				return err
			}
			if err := os.Chown(data, uid, gid); err != nil {
				return err
			}
		}
		initdb := process{user: postgresUser, home: data, argv: []string{postgresBin + "initdb", "-D", data,
			"-U", postgresUser, "-A", "trust", "-N", "--no-instructions", "-E", "UTF8", "--locale=C"}}
		if _, err := initdb.output(ctx, data); err != nil {
			return err
		}
		file, err := os.OpenFile(filepath.Join(data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = file.WriteString(e.files["postgresql.conf"]) // later lines win
		return err
	}
	e.ready = func(ctx context.Context) error {
		text, err := output(ctx, "", "psql", "-X", "-A", "-t", "-w", "-d", e.env[0].value, "-c", "select 1")
		if err == nil && strings.TrimSpace(text) != "1" {
			err = fmt.Errorf("select 1 answers %q", text)
		}
		return err
	}
	return e
}

// postgresData is where the tables live. PostgreSQL refuses to run as root, and
// the user it runs as instead cannot enter root's cache, but has a home.
func (s site) postgresData(dir string) string {
	if os.Getuid() != 0 {
		return filepath.Join(dir, "data")
	}
	return fmt.Sprintf("/var/lib/postgresql/stanchion-%.4x", sha256.Sum256([]byte(s.cache)))
}
