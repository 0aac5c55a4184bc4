package admin_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stanchion-queue/stanchion/admin"
	"github.com/stanchion-queue/stanchion/admin/desktest"
)

// A pipes listener connects without a network, so that connections live in virtual time and hold nothing in buffers.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

type pipe struct{ net.Conn }

func (pipe) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 50000} }

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error   { close(p.done); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9090} }

// ask opens a connection and sends a request for path.
func (p pipes) ask(t *testing.T, path string) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	p.conns <- pipe{server}
	if _, err := fmt.Fprintf(client, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:9090\r\nAuthorization: Bearer %s\r\n\r\n", path, token); err != nil {
		t.Fatal(err)
	}
	return client
}

// streaming runs a console, whose server has short time limits, in virtual time; its room is reported each second.
func streaming(t *testing.T, f func(p pipes, h *desktest.House, metrics *prometheus.Registry)) {
	synctest.Test(t, func(t *testing.T) {
		h, metrics := desktest.New("onsale"), prometheus.NewRegistry()
		began := time.Now()
		h.Show("onsale", desktest.Evening(began, time.Minute))
		c, err := admin.New(admin.Options{Rooms: h, Token: token, MaxViewers: 2, Log: slog.New(slog.DiscardHandler), Registerer: metrics})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan struct{})
		go func() {
			defer close(ran)
			c.Run(ctx)
		}()
		reported := make(chan struct{})
		go func() {
			defer close(reported)
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case now := <-tick.C:
					h.Show("onsale", desktest.Evening(now, now.Sub(began)))
				}
			}
		}()
		p := pipes{make(chan net.Conn), make(chan struct{})}
		s := &http.Server{Handler: c, ReadTimeout: 3 * time.Second, WriteTimeout: 3 * time.Second}
		served := make(chan error, 1)
		go func() { served <- s.Serve(p) }()
		f(p, h, metrics)
		cancel()
		<-ran
		<-reported
		if err := s.Shutdown(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
		<-served
	})
}

func gauge(t *testing.T, r *prometheus.Registry, name string, want float64) {
	t.Helper()
	all, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == name {
			if got := f.Metric[0].GetGauge().GetValue() + f.Metric[0].GetCounter().GetValue(); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
			return
		}
	}
	t.Errorf("no metric %s", name)
}

// events reads n events of a stream and returns their data.
func events(t *testing.T, r *bufio.Reader, n int) []string {
	t.Helper()
	var data []string
	for len(data) < n {
		text, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("after %d events: %v", len(data), err)
		}
		if d, ok := strings.CutPrefix(text, "data: "); ok {
			data = append(data, d)
		}
	}
	return data
}

// A stream outlives the server's time limits and brings a look each second, in virtual time exactly.
func TestStream(t *testing.T) {
	for _, path := range []string{"/api/v1/rooms/onsale/live", "/rooms/onsale/feed"} {
		streaming(t, func(p pipes, _ *desktest.House, metrics *prometheus.Registry) {
			if path == "/rooms/onsale/feed" { // the pages' own stream is the same for a program with the token
				gauge(t, metrics, "stanchion_console_viewers", 0)
			}
			conn := p.ask(t, path)
			r := bufio.NewReader(conn)
			events(t, r, 1)
			at := time.Now()
			for _, d := range events(t, r, 30) {
				if !strings.Contains(d, `"waiting"`) {
					t.Errorf("%s: %s", path, d)
				}
			}
			if took := time.Since(at); took < 29*time.Second || took > 31*time.Second {
				t.Errorf("%s: 30 events in %v", path, took)
			}
			gauge(t, metrics, "stanchion_console_viewers", 1)
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second) // virtual: the next write finds the reader gone
			gauge(t, metrics, "stanchion_console_viewers", 0)
			gauge(t, metrics, "stanchion_console_viewers_dropped_total", 0)
		})
	}
}

// Who does not read is dropped within seconds, and never delays those who do.
func TestStreamDropsWhoDoesNotRead(t *testing.T) {
	streaming(t, func(p pipes, _ *desktest.House, metrics *prometheus.Registry) {
		slow := p.ask(t, "/api/v1/rooms/onsale/live")
		defer slow.Close()
		synctest.Wait() // its stream is open, and stuck in the first write
		quick := p.ask(t, "/api/v1/rooms/onsale/live")
		r := bufio.NewReader(quick)
		events(t, r, 1)
		at := time.Now()
		third := p.ask(t, "/api/v1/rooms/onsale/live")
		answer, err := http.ReadResponse(bufio.NewReader(third), nil)
		if err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" {
			t.Errorf("a viewer too many: %d %v", answer.StatusCode, answer.Header)
		}
		if err := third.Close(); err != nil {
			t.Fatal(err)
		}
		events(t, r, 10)
		if took := time.Since(at); took > 11*time.Second {
			t.Errorf("ten events took %v beside a reader that is stuck", took)
		}
		gauge(t, metrics, "stanchion_console_viewers", 1)
		gauge(t, metrics, "stanchion_console_viewers_dropped_total", 1)
		gauge(t, metrics, "stanchion_console_viewers_refused_total", 1)
		if err := quick.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A room whose controller is silent still streams: its age is the news.
func TestStreamTellsTheAge(t *testing.T) {
	streaming(t, func(p pipes, h *desktest.House, _ *prometheus.Registry) {
		conn := p.ask(t, "/api/v1/rooms/onsale/live")
		defer conn.Close()
		r := bufio.NewReader(conn)
		events(t, r, 2)
		h.Hang(true) // each look now takes its whole two seconds
		got := events(t, r, 5)
		if !strings.Contains(got[4], `"stale":true`) || !strings.Contains(got[4], "does not answer in time") {
			t.Errorf("%s", got[4])
		}
	})
}

func TestMetricsAreDescribed(t *testing.T) {
	r := prometheus.NewRegistry()
	h := desktest.New()
	if _, err := admin.New(admin.Options{Rooms: h, Token: token, Log: slog.New(slog.DiscardHandler), Registerer: r}); err != nil {
		t.Fatal(err)
	}
	problems, err := testutil.GatherAndLint(r)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	if _, err := admin.New(admin.Options{Rooms: h, Token: token, Log: slog.New(slog.DiscardHandler), Registerer: r}); err == nil {
		t.Error("the same metrics were registered twice without a word")
	}
}
