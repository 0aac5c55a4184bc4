package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// call is one request.
type call struct {
	method, path, cookie, json string
}

// answer is what came back; it is valid until the next request of the same connection.
type answer struct {
	status int
	body   []byte
	cookie func(name string) string // value of a Set-Cookie; empty: none
}

// pump sends requests over connections from networks of their own, as fans do.
type pump struct {
	clients []*fasthttp.HostClient
	host    string
}

func newPump(address string, connections int) *pump {
	p := &pump{host: address}
	for i := range connections {
		d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 16+byte(i/250)%16, byte(i%250), 1)}}
		p.clients = append(p.clients, &fasthttp.HostClient{
			Addr: address, MaxConns: 1, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxIdleConnDuration: 5 * time.Second, Name: "room-bench",
			Dial: func(addr string) (net.Conn, error) { return d.Dial("tcp", addr) },
		})
	}
	return p
}

// do sends one request over one connection.
func (p *pump) do(worker int, m move, ticket string) (next string, err error) {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	c := m.request(ticket)
	req.Header.SetMethod(c.method)
	req.SetRequestURI("http://" + p.host + c.path)
	req.Header.Set("Accept", "application/json")
	if c.cookie != "" {
		req.Header.Set("Cookie", c.cookie)
	}
	if c.json != "" {
		req.Header.SetContentType("application/json")
		req.SetBodyString(c.json)
	}
	if err := p.clients[worker].Do(req, resp); err != nil {
		return "", err
	}
	return m.response(answer{status: resp.StatusCode(), body: resp.Body(), cookie: func(name string) string {
		for _, v := range resp.Header.PeekAll("Set-Cookie") {
			var c fasthttp.Cookie
			if c.ParseBytes(v) == nil && bytes.Equal(c.Key(), []byte(name)) {
				return string(c.Value())
			}
		}
		return ""
	}})
}

// work lets all connections take numbers from next until it says no; f must be safe for concurrent use by different workers.
func (p *pump) work(ctx context.Context, next func() (i int, ok bool), f func(worker, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for w := range p.clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				i, ok := next()
				if !ok {
					return
				}
				if err := f(w, i); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return nil
}

// flat sends a request as fast as it is answered, for d or until the tickets are used up; each ticket is used once. Without use no ticket
// is sent. The answers' tickets come back.
func (p *pump) flat(ctx context.Context, m move, tickets []string, use bool, d time.Duration) (out []string, err error) {
	if use && len(tickets) == 0 {
		return nil, errors.New("nobody is in line")
	}
	until := time.Now().Add(d)
	var n atomic.Int64
	var mu sync.Mutex
	err = p.work(ctx, func() (int, bool) {
		i := int(n.Add(1)) - 1
		return i, time.Now().Before(until) && (!use || i < len(tickets))
	}, func(w, i int) error {
		ticket := ""
		if use {
			ticket = tickets[i]
		}
		next, err := p.do(w, m, ticket)
		if err != nil {
			return err
		}
		mu.Lock()
		out = append(out, next)
		mu.Unlock()
		return nil
	})
	return out, err
}

// cycle sends a request with one ticket after the other, over and over, for d, and counts the answers.
func (p *pump) cycle(ctx context.Context, m move, tickets []string, d time.Duration) (int, error) {
	if len(tickets) == 0 {
		return 0, errors.New("nobody is in line")
	}
	until := time.Now().Add(d)
	var n, done atomic.Int64
	err := p.work(ctx, func() (int, bool) {
		return int((n.Add(1) - 1) % int64(len(tickets))), time.Now().Before(until)
	}, func(w, i int) error {
		if _, err := p.do(w, m, tickets[i]); err != nil {
			return err
		}
		done.Add(1)
		return nil
	})
	return int(done.Load()), err
}

// paced sends one request per ticket, evenly over d, or as fast as they are answered when that takes longer.
func (p *pump) paced(ctx context.Context, m move, tickets []string, use bool, d time.Duration) ([]string, error) {
	start := time.Now()
	out := make([]string, len(tickets))
	var n atomic.Int64
	err := p.work(ctx, func() (int, bool) {
		i := int(n.Add(1)) - 1
		return i, i < len(tickets)
	}, func(w, i int) error {
		due := start.Add(time.Duration(float64(d) * float64(i) / float64(len(tickets))))
		if err := pause(ctx, time.Until(due)); err != nil {
			return err
		}
		ticket := ""
		if use {
			ticket = tickets[i]
		}
		next, err := p.do(w, m, ticket)
		if err != nil {
			return err
		}
		if next == "" {
			next = ticket
		}
		out[i] = next
		return nil
	})
	return out, err
}

func (a answer) want(status int) error {
	if a.status != status {
		return fmt.Errorf("status %d, want %d: %.200s", a.status, status, a.body)
	}
	return nil
}
