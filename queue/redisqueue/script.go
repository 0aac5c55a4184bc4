package redisqueue

import (
	"context"
	"crypto/sha1"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

//go:embed lua/*.lua
var sources embed.FS

// script is one step: the files it is made of, in order.
type script struct {
	name  string
	parts []string
	at    int // index in scripts
}

var scripts []*script

func newScript(name string, parts ...string) *script {
	s := &script{name: name, parts: parts, at: len(scripts)}
	scripts = append(scripts, s)
	return s
}

var (
	scriptCreate     = newScript("create", "base", "create")
	scriptInfo       = newScript("info", "base", "info")
	scriptControl    = newScript("control", "base", "room", "control")
	scriptFlush      = newScript("flush", "base", "room", "flush")
	scriptClaim      = newScript("claim", "base", "room", "claim")
	scriptLead       = newScript("lead", "base", "room", "lead")
	scriptBeat       = newScript("beat", "base", "room", "beat")
	scriptRegen      = newScript("regen", "base", "room", "regen")
	scriptRestore    = newScript("restore", "base", "room", "restore")
	scriptUnsealed   = newScript("unsealed", "base", "room", "unsealed")
	scriptEdges      = newScript("edges", "base", "room", "edges")
	scriptSeal       = newScript("seal", "base", "room", "leader", "seal")
	scriptCall       = newScript("call", "base", "room", "leader", "call")
	scriptFree       = newScript("free", "base", "room", "leader", "free")
	scriptReap       = newScript("reap", "base", "room", "leader", "reap")
	scriptOpen       = newScript("open", "base", "room", "leader", "open")
	scriptConfigure  = newScript("configure", "base", "room", "prepare", "configure")
	scriptStartLine  = newScript("start_line", "base", "room", "prepare", "start_line")
	scriptUpdateLine = newScript("update_line", "base", "room", "prepare", "update_line")
	scriptLine       = newScript("line", "base", "room", "line")
	scriptLedger     = newScript("ledger", "base", "room", "ledger")
)

// text is the script as loaded on the server process with a run id.
func (s *script) text(runID string) (string, error) {
	var b strings.Builder
	for _, p := range s.parts {
		src, err := sources.ReadFile("lua/" + p + ".lua")
		if err != nil {
			return "", fmt.Errorf("script %s: %w", s.name, err)
		}
		b.Write(src)
	}
	return strings.ReplaceAll(b.String(), "@RUN@", runID), nil
}

// server is one server process on which the scripts are loaded.
type server struct {
	runID string
	sha   []string // by script.at

	polling  atomic.Bool
	polled   atomic.Int64 // Unix ms of the last look at the replicas
	replicas atomic.Int64 // in sync then
}

// replicaView is how long a look at the replicas holds.
const replicaView = time.Second

// servers knows the server process of each room.
type servers struct {
	client rueidis.Client
	load   chan struct{} // one learns at a time

	mu     sync.RWMutex
	byRoom map[string]*server
	byRun  map[string]*server
}

func (s *servers) get(room string) *server {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byRoom[room]
}

// forget drops what is known about a room's server, unless somebody has learnt better since.
func (s *servers) forget(room string, old *server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byRoom[room] == old {
		delete(s.byRoom, room)
	}
}

// find returns the room's server; the first time, and after its process has changed, it reads the run id, checks the server's
// settings and loads the scripts, all on one connection and so on one process.
func (s *servers) find(ctx context.Context, room, key string) (*server, error) {
	if srv := s.get(room); srv != nil {
		return srv, nil
	}
	select {
	case s.load <- struct{}{}:
		defer func() { <-s.load }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if srv := s.get(room); srv != nil {
		return srv, nil
	}
	var srv *server
	err := s.client.Dedicated(func(c rueidis.DedicatedClient) error {
		// The keyed command first: in a cluster it chooses the node for all that follow.
		if err := c.Do(ctx, c.B().Exists().Key(key).Build()).Error(); err != nil {
			return err
		}
		text, err := c.Do(ctx, c.B().Info().Build()).ToString()
		if err != nil {
			return err
		}
		info := parseInfo(text)
		if err := info.check(); err != nil {
			return err
		}
		srv = &server{runID: info["run_id"]}
		srv.replicas.Store(info.inSync())
		srv.polled.Store(time.Now().UnixMilli())
		load := make(rueidis.Commands, len(scripts))
		for i, sc := range scripts {
			text, err := sc.text(srv.runID)
			if err != nil {
				return err
			}
			sum := sha1.Sum([]byte(text))
			srv.sha = append(srv.sha, hex.EncodeToString(sum[:]))
			load[i] = c.B().ScriptLoad().Script(text).Build()
		}
		for i, res := range c.DoMulti(ctx, load...) {
			sha, err := res.ToString()
			if err != nil {
				return fmt.Errorf("load script %s: %w", scripts[i].name, err)
			}
			if sha != srv.sha[i] {
				return fmt.Errorf("load script %s: digest %s, want %s", scripts[i].name, sha, srv.sha[i])
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.byRun[srv.runID]; old != nil {
		srv = old // the scripts were flushed, or the room has moved to a server that is known
	}
	s.byRun[srv.runID], s.byRoom[room] = srv, srv
	return srv, nil
}

// info is what INFO says.
type info map[string]string

func parseInfo(text string) info {
	out := info{}
	for l := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimRight(l, "\r\n"), ":"); ok {
			out[k] = v
		}
	}
	return out
}

// errServer marks settings of a server with which rooms are not safe.
var errServer = errors.New("server is not fit for rooms")

// check refuses a server on which a room could lose something without saying so.
func (f info) check() error {
	version := f["redis_version"]
	major, err := strconv.Atoi(strings.SplitN(version, ".", 2)[0])
	switch {
	case f["run_id"] == "" || err != nil:
		return fmt.Errorf("%w: INFO names no run_id or redis_version", errServer)
	case major < 7:
		return fmt.Errorf("%w: version %s, want Redis 7 or Valkey 7 or later", errServer, version)
	case f["maxmemory_policy"] != "noeviction":
		return fmt.Errorf("%w: maxmemory-policy is %q, want noeviction: an evicted key would be a wrong place in line", errServer, f["maxmemory_policy"])
	case f["role"] != "master":
		return fmt.Errorf("%w: it is a %s of %s:%s, not a primary", errServer, f["role"], f["master_host"], f["master_port"])
	}
	return nil
}

// inSync counts the replicas that have answered within the last 2 s.
func (f info) inSync() int64 {
	n := int64(0)
	for i := 0; ; i++ {
		line, ok := f["slave"+strconv.Itoa(i)]
		if !ok {
			return n
		}
		fields := map[string]string{}
		for kv := range strings.SplitSeq(line, ",") {
			k, v, _ := strings.Cut(kv, "=")
			fields[k] = v
		}
		lag, err := strconv.Atoi(fields["lag"])
		if fields["state"] == "online" && err == nil && lag >= 0 && lag <= 2 {
			n++
		}
	}
}
