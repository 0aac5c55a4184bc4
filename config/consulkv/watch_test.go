package consulkv

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stanchion-queue/stanchion/config/settingstest"
)

type answering func(*http.Request) (*http.Response, error)

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) { return a(r) }

// scripted is a client whose agent is a function, and what it logs.
func scripted(t *testing.T, a answering) (*Client, *bytes.Buffer) {
	t.Helper()
	logs := new(bytes.Buffer)
	c, err := New(Options{Address: "127.0.0.1:1", Logger: slog.New(slog.NewTextHandler(logs, nil)), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	c.api, err = api.NewClient(&api.Config{Address: "127.0.0.1:1", HttpClient: &http.Client{Transport: a}})
	if err != nil {
		t.Fatal(err)
	}
	return c, logs
}

func answer(index uint64, body any) *http.Response {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"X-Consul-Index": {strconv.FormatUint(index, 10)}}, Body: io.NopCloser(bytes.NewReader(text))}
}

func TestNextIndex(t *testing.T) {
	for _, c := range []struct{ before, got, want uint64 }{
		{0, 7, 7}, {7, 7, 7}, {7, 9, 9}, // as usual
		{9, 7, 0}, // went back: start again
		{0, 0, 1}, // never wait from 0 twice: that would spin
		{5, 0, 0},
	} {
		if got := nextIndex(c.before, c.got); got != c.want {
			t.Errorf("nextIndex(%d, %d) = %d, want %d", c.before, c.got, got, c.want)
		}
	}
}

func TestWatchSurvivesOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, logs := scripted(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var asked []uint64
		var at []time.Duration
		began := time.Now()
		err := c.watch(ctx, "x", func(_ context.Context, index uint64) (uint64, error) {
			asked, at = append(asked, index), append(at, time.Since(began))
			switch n := len(asked); {
			case n == 1:
				return 5, nil
			case n < 40:
				return 0, errors.New("connection refused")
			case n == 40:
				return 6, nil
			}
			cancel()
			return 6, nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("watch ended with %v", err)
		}
		if asked[1] != 5 || asked[2] != 0 || asked[len(asked)-1] != 6 {
			t.Errorf("asked from indexes %v; want 5 after the first answer, 0 after a failure, 6 at the end", asked)
		}
		longest := time.Duration(0)
		for i := 1; i < len(at); i++ {
			longest = max(longest, at[i]-at[i-1])
		}
		if longest < retryLongest/2 || longest > retryLongest*2 {
			t.Errorf("the longest pause was %s; it should grow to about %s and no further", longest, retryLongest)
		}
		if total := at[39] - at[1]; total < time.Minute {
			t.Errorf("38 failures within %s hammer the agent", total)
		}
		if n := bytes.Count(logs.Bytes(), []byte("cannot be asked")); n != 1 {
			t.Errorf("an outage was logged %d times, want once", n)
		}
		if got := testutil.ToFloat64(c.metrics.errors.WithLabelValues("x")); got != 38 {
			t.Errorf("%v errors counted, want 38", got)
		}
	})
}

func TestWatchIsBoundedUnderChurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := scripted(t, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		queries := 0
		err := c.watch(ctx, "x", func(_ context.Context, index uint64) (uint64, error) {
			queries++
			return index + 1, nil
		})
		if err == nil {
			t.Fatal("the watch ended without an error")
		}
		if most := churnBurst + 60*churnRate + 1; queries > most || queries < most/2 {
			t.Errorf("%d queries in a minute of churn, want about and at most %d", queries, most)
		}
	})
}

func TestWatchGivesUpASilentQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := scripted(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := 0
		began := time.Now()
		_ = c.watch(ctx, "x", func(ctx context.Context, _ uint64) (uint64, error) {
			if n++; n == 2 {
				cancel()
			}
			<-ctx.Done() // an agent that has stopped answering
			return 0, ctx.Err()
		})
		if took := time.Since(began); took < waitMost || took > waitMost+waitSlack+retryLongest {
			t.Errorf("a silent query was given up after %s, want little more than %s", took, waitMost)
		}
	})
}

func TestLastGoodTargetsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		instance := func(port int) *api.ServiceEntry {
			return &api.ServiceEntry{Node: &api.Node{Address: "10.0.0.9"}, Service: &api.AgentService{ID: fmt.Sprint("i", port), Port: port}}
		}
		answers := [][]*api.ServiceEntry{
			{},                         // nobody yet
			{instance(2), instance(1)}, // in any order
			{instance(1), instance(2)}, // the same
			{},                         // all gone at once
			{instance(1)},              // one is back
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := 0
		c, logs := scripted(t, func(r *http.Request) (*http.Response, error) {
			if r.URL.Query().Get("passing") != "1" {
				t.Errorf("asked for unhealthy instances too: %s", r.URL)
			}
			if n == len(answers) {
				cancel()
				return nil, ctx.Err()
			}
			n++
			return answer(uint64(n), answers[n-1]), nil
		})
		var told [][]string
		err := c.WatchTargets(ctx, "core", func(ts []Target) {
			var addresses []string
			for _, t := range ts {
				addresses = append(addresses, t.Address)
			}
			told = append(told, addresses)
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("watch ended with %v", err)
		}
		want := [][]string{{"10.0.0.9:1", "10.0.0.9:2"}, {"10.0.0.9:1"}}
		if !slices.EqualFunc(told, want, slices.Equal) {
			t.Errorf("told %v, want %v", told, want)
		}
		if !bytes.Contains(logs.Bytes(), []byte("no healthy instance")) {
			t.Errorf("the sudden empty list was not logged: %s", logs)
		}
		if kept := testutil.ToFloat64(c.metrics.kept.WithLabelValues("core")); kept != 0 {
			t.Errorf("%v targets still marked as kept", kept)
		}
	})
}

func TestHandEditedDocumentIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		doc := settingstest.Document(t, 9)
		good, err := json.Marshal(entry{Version: 3, Doc: doc})
		if err != nil {
			t.Fatal(err)
		}
		pair := func(room string, index uint64, value string) *api.KVPair {
			return &api.KVPair{Key: "p/rooms/" + room, ModifyIndex: index, Value: []byte(value)}
		}
		answers := []api.KVPairs{
			{pair("a", 1, string(good)), pair("b", 2, "{{"), pair("c", 3, `{"version": 1, "doc": {"host": "x", "cap": 0}}`)},
			{pair("a", 4, `{"version": 4, "doc": {"hots": "x"}}`)}, // b and c deleted, a spoiled
			{pair("a", 5, string(good))},
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := 0
		c, logs := scripted(t, func(*http.Request) (*http.Response, error) {
			if n == len(answers) {
				cancel()
				return nil, ctx.Err()
			}
			n++
			return answer(uint64(n), answers[n-1]), nil
		})
		var told []string
		if err := c.Settings("p").Watch(ctx, func(room string, got []byte, version string) {
			told = append(told, room+"@"+version)
			if !bytes.Equal(got, doc) {
				t.Errorf("told %s, want %s", got, doc)
			}
		}); !errors.Is(err, context.Canceled) {
			t.Fatalf("watch ended with %v", err)
		}
		if want := []string{"a@3", "a@3"}; !slices.Equal(told, want) {
			t.Errorf("told %v, want %v", told, want)
		}
		if n := bytes.Count(logs.Bytes(), []byte("document in consul refused")); n != 3 {
			t.Errorf("%d refusals logged, want 3:\n%s", n, logs)
		}
	})
}
