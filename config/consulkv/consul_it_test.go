//go:build it

package consulkv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/stanchion-queue/stanchion/config"
	"github.com/stanchion-queue/stanchion/config/settingstest"
)

// real is a client of the Consul that STANCHION_TEST_CONSUL names (http://host:port), and a name nobody else uses.
func real(t *testing.T) (*Client, string) {
	t.Helper()
	u, err := url.Parse(os.Getenv("STANCHION_TEST_CONSUL"))
	if err != nil || u.Host == "" {
		t.Fatalf("STANCHION_TEST_CONSUL=%q names no Consul; set it to http://host:port", os.Getenv("STANCHION_TEST_CONSUL"))
	}
	c, err := New(Options{Address: u.Host, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c, fmt.Sprintf("stanchion-test-%d-%d", os.Getpid(), time.Now().UnixNano())
}

func TestSettingsConformance(t *testing.T) {
	settingstest.Run(t, func(t *testing.T) config.Settings {
		c, name := real(t)
		t.Cleanup(func() {
			if _, err := c.api.KV().DeleteTree(name+"/", nil); err != nil {
				t.Errorf("clean up: %v", err)
			}
		})
		return c.Settings(name + "/settings")
	})
}

func TestLargestDocumentFits(t *testing.T) {
	c, name := real(t)
	t.Cleanup(func() {
		if _, err := c.api.KV().DeleteTree(name+"/", nil); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	room, err := config.ParseRoom("main", []byte(`{"host": "a.example"}`))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		room.Codes.SHA256 = append(room.Codes.SHA256, fmt.Sprintf("%064x", i))
	}
	doc, err := room.Document()
	if err != nil {
		t.Fatal(err)
	}
	doc = append(doc, make([]byte, config.MaxDocumentBytes-len(doc))...)
	for i := range doc {
		if doc[i] == 0 {
			doc[i] = ' '
		}
	}
	if _, err := c.Settings(name).Put(t.Context(), "main", doc, "", "ada", "largest"); err != nil {
		t.Fatalf("the largest document of %d bytes: %v", len(doc), err)
	}
}

// TestServicesComeAndGo registers two instances, lets one become unhealthy and the other leave, and sees the last good
// list kept.
func TestServicesComeAndGo(t *testing.T) {
	c, name := real(t)
	type instance struct {
		stop    context.CancelFunc
		ended   chan error
		healthy chan error
	}
	start := func(id string, port int) instance {
		ctx, cancel := context.WithCancel(t.Context())
		i := instance{cancel, make(chan error, 1), make(chan error, 1)}
		i.healthy <- nil
		go func() {
			i.ended <- c.Register(ctx, Service{Name: name, ID: name + "-" + id, Address: "127.0.0.1", Port: port, TTL: time.Second, Meta: map[string]string{"node": id}}, func() error {
				err := <-i.healthy
				i.healthy <- err
				return err
			})
		}()
		return i
	}
	news := make(chan []Target, 100)
	watching, stopWatch := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() { watched <- c.WatchTargets(watching, name, func(t []Target) { news <- t }) }()
	want := func(addresses ...string) {
		t.Helper()
		deadline := time.After(20 * time.Second)
		for {
			select {
			case got := <-news:
				if len(got) != len(addresses) {
					continue
				}
				for i := range got {
					if got[i].Address != addresses[i] {
						t.Fatalf("targets %v, want %v", got, addresses)
					}
				}
				return
			case <-deadline:
				t.Fatalf("did not see %v", addresses)
			}
		}
	}
	a := start("a", 7001)
	want("127.0.0.1:7001")
	b := start("b", 7002)
	want("127.0.0.1:7001", "127.0.0.1:7002")
	<-a.healthy
	a.healthy <- errors.New("sick")
	want("127.0.0.1:7002")
	<-a.healthy
	a.healthy <- nil
	want("127.0.0.1:7001", "127.0.0.1:7002")

	// An agent that forgets a registration (as after a restart) gets it again.
	if err := c.api.Agent().ServiceDeregister(name + "-a"); err != nil {
		t.Fatal(err)
	}
	want("127.0.0.1:7002")
	want("127.0.0.1:7001", "127.0.0.1:7002")

	b.stop()
	if err := <-b.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("b ended with %v", err)
	}
	want("127.0.0.1:7001")
	a.stop()
	if err := <-a.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("a ended with %v", err)
	}
	entries, _, err := c.api.Health().Service(name, "", false, &api.QueryOptions{RequireConsistent: true})
	if err != nil || len(entries) != 0 {
		t.Errorf("%d instances left behind, %v", len(entries), err)
	}
	stopWatch()
	if err := <-watched; !errors.Is(err, context.Canceled) {
		t.Errorf("watch ended with %v", err)
	}
	if len(news) != 0 {
		t.Errorf("the watch passed on an empty list: %v", <-news)
	}
}
