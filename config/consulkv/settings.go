package consulkv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/stanchion-queue/stanchion/config"
)

// historyKept is how many versions of a room's document Consul keeps; older ones are deleted as new ones come.
const historyKept = 100

// Settings is a config.Settings in Consul KV. Under its prefix, rooms/<room> holds the document in force and
// history/<room>/<version> every version; both are written in one transaction, guarded by the document's index.
type Settings struct {
	c      *Client
	prefix string
}

var _ config.Settings = (*Settings)(nil)

// Settings keeps documents under prefix ("stanchion/settings").
func (c *Client) Settings(prefix string) *Settings { return &Settings{c: c, prefix: prefix} }

// entry is the value of a key.
type entry struct {
	Version int64           `json:"version"`
	Who     string          `json:"who"`
	Why     string          `json:"why"`
	At      time.Time       `json:"at"`
	Doc     json.RawMessage `json:"doc"`
}

func (s *Settings) roomKey(room string) string { return s.prefix + "/rooms/" + room }

func (s *Settings) historyKey(room string, version int64) string {
	return fmt.Sprintf("%s/history/%s/%012d", s.prefix, room, version)
}

// Get implements config.Settings.
func (s *Settings) Get(ctx context.Context, room string) (doc []byte, version string, err error) {
	e, _, err := s.current(ctx, room)
	if err != nil {
		return nil, "", err
	}
	return e.Doc, versionText(e.Version), nil
}

// current is the entry in force and its index.
func (s *Settings) current(ctx context.Context, room string) (e entry, index uint64, err error) {
	var pair *api.KVPair
	err = call(ctx, "read settings of room "+strconv.Quote(room), func(ctx context.Context) error {
		var err error
		pair, _, err = s.c.api.KV().Get(s.roomKey(room), (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
		return err
	})
	if err != nil {
		return entry{}, 0, err
	}
	if pair == nil {
		return entry{}, 0, fmt.Errorf("room %q: %w", room, config.ErrNoSettings)
	}
	if err := json.Unmarshal(pair.Value, &e); err != nil {
		return entry{}, 0, fmt.Errorf("consul key %s was not written by this program: %w", pair.Key, err)
	}
	return e, pair.ModifyIndex, nil
}

func versionText(v int64) string {
	if v == 0 {
		return ""
	}
	return strconv.FormatInt(v, 10)
}

// Put implements config.Settings.
func (s *Settings) Put(ctx context.Context, room string, doc []byte, ifVersion, who, why string) (version string, err error) {
	if err := config.CheckPut(room, doc, who, why); err != nil {
		return "", err
	}
	now, index, err := s.current(ctx, room)
	if err != nil && !errors.Is(err, config.ErrNoSettings) {
		return "", err
	}
	conflict := fmt.Errorf("room %q is not at version %q: %w", room, ifVersion, config.ErrConflict)
	if versionText(now.Version) != ifVersion {
		return "", conflict
	}
	next := entry{Version: now.Version + 1, Who: who, Why: why, At: time.Now().UTC().Truncate(time.Millisecond), Doc: doc}
	value, err := json.Marshal(next)
	if err != nil {
		return "", fmt.Errorf("encode settings of room %q: %w", room, err)
	}
	ops := api.TxnOps{
		{KV: &api.KVTxnOp{Verb: api.KVCAS, Key: s.roomKey(room), Value: value, Index: index}}, // index 0: only if absent
		{KV: &api.KVTxnOp{Verb: api.KVSet, Key: s.historyKey(room, next.Version), Value: value}},
	}
	if old := next.Version - historyKept; old > 0 {
		ops = append(ops, &api.TxnOp{KV: &api.KVTxnOp{Verb: api.KVDelete, Key: s.historyKey(room, old)}})
	}
	var stored bool
	err = call(ctx, "write settings of room "+strconv.Quote(room), func(ctx context.Context) error {
		ok, answer, _, err := s.c.api.Txn().Txn(ops, (&api.QueryOptions{}).WithContext(ctx))
		if err != nil {
			return err
		}
		stored = ok
		for _, e := range answer.Errors {
			if e.OpIndex != 0 { // the first is the guard
				return fmt.Errorf("operation %d: %s", e.OpIndex, e.What)
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	if !stored {
		return "", conflict
	}
	return versionText(next.Version), nil
}

// Watch implements config.Settings. A document that was put there by hand and is not valid is reported and not passed
// on; one that was deleted stays in force.
func (s *Settings) Watch(ctx context.Context, changed func(room string, doc []byte, version string)) error {
	prefix := s.prefix + "/rooms/"
	told := map[string]uint64{} // index of what was told, by room
	return s.c.watch(ctx, "settings", func(ctx context.Context, index uint64) (uint64, error) {
		pairs, meta, err := s.c.api.KV().List(prefix, (&api.QueryOptions{WaitIndex: index, WaitTime: waitMost}).WithContext(ctx))
		if err != nil {
			return 0, err
		}
		for _, pair := range pairs {
			room := strings.TrimPrefix(pair.Key, prefix)
			if told[room] == pair.ModifyIndex {
				continue
			}
			told[room] = pair.ModifyIndex
			var e entry
			err := json.Unmarshal(pair.Value, &e)
			if err == nil {
				_, err = config.ParseRoom(room, e.Doc)
			}
			if err != nil {
				s.c.log.Warn("settings document in consul refused; the last good one stays in force", slog.String("key", pair.Key), slog.Any("error", err))
				continue
			}
			changed(room, e.Doc, versionText(e.Version))
		}
		return meta.LastIndex, nil
	})
}

// History implements config.Settings; the last 100 versions are kept.
func (s *Settings) History(ctx context.Context, room string, limit int) ([]config.Revision, error) {
	prefix := fmt.Sprintf("%s/history/%s/", s.prefix, room)
	var pairs api.KVPairs
	err := call(ctx, "read history of room "+strconv.Quote(room), func(ctx context.Context) error {
		var err error
		pairs, _, err = s.c.api.KV().List(prefix, (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
		return err
	})
	if err != nil {
		return nil, err
	}
	var all []config.Revision
	for _, pair := range slices.Backward(pairs) { // keys sort by version
		if len(all) >= max(limit, 1) {
			break
		}
		var e entry
		if err := json.Unmarshal(pair.Value, &e); err != nil {
			return nil, fmt.Errorf("consul key %s was not written by this program: %w", pair.Key, err)
		}
		all = append(all, config.Revision{Room: room, Version: versionText(e.Version), Doc: e.Doc, Who: e.Who, Why: e.Why, At: e.At})
	}
	return all, nil
}

// Ping tells whether the agent knows a leader.
func (c *Client) Ping(ctx context.Context) error {
	return call(ctx, "ask for the leader", func(ctx context.Context) error {
		leader, err := c.api.Status().LeaderWithQueryOptions((&api.QueryOptions{}).WithContext(ctx))
		if err == nil && leader == "" {
			err = errors.New("there is none")
		}
		return err
	})
}
