package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/valyala/fasthttp"

	"github.com/stanchion-queue/stanchion/queue/line"
)

// Outcome is how a fan's evening ended.
type Outcome string

// The outcomes.
const (
	Bought     Outcome = "bought"
	Left       Outcome = "left"
	Silent     Outcome = "went away silently"
	AbsentFan  Outcome = "absent when called"
	NoSeats    Outcome = "found no seats"
	Declined   Outcome = "payment declined"
	Closed     Outcome = "room closed"
	Failed     Outcome = "failed"
	Unfinished Outcome = "still there at the end"
)

// fan is one simulated person with a browser: cookies, one connection, a plan.
type fan struct {
	*crowd
	plan
	edge    int // index of the edge that the fan's connections reach
	client  *fasthttp.HostClient
	cookies map[string]string
	sent    time.Time // when the last request was sent
	known   time.Time // when an absent fan learnt the rank
	called  time.Time // when the fan first knew
	inside  bool      // has been let in
}

func newFan(c *crowd, p plan) *fan {
	f := &fan{crowd: c, plan: p, cookies: map[string]string{}, edge: p.id % len(c.targets)}
	f.client = f.dial(f.edge)
	return f
}

// dial makes a client of one edge.
func (f *fan) dial(edge int) *fasthttp.HostClient {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	if f.source.IsValid() {
		dialer.LocalAddr = &net.TCPAddr{IP: f.source.AsSlice()}
	}
	return &fasthttp.HostClient{
		Addr: f.targets[edge].Host, Name: "stanchion-load", MaxConns: 2, MaxIdleConnDuration: 10 * time.Second, ReadTimeout: f.Timeout, WriteTimeout: f.Timeout,
		DisablePathNormalizing: true, RetryIfErr: func(*fasthttp.Request, int, error) (bool, bool) { return false, false },
		Dial: func(addr string) (net.Conn, error) { return dialer.Dial("tcp", addr) },
	}
}

// moveOn is what a balancer does with a fan whose edge is gone.
func (f *fan) moveOn() {
	f.client.CloseIdleConnections()
	f.edge = (f.edge + 1) % len(f.targets)
	f.client = f.dial(f.edge)
}

func (f *fan) close() { f.client.CloseIdleConnections() }

// answer is a response, copied.
type answer struct {
	status   int
	decision string
	header   map[string]string
	body     []byte
}

func (a *answer) json(v any) error {
	if err := json.Unmarshal(a.body, v); err != nil {
		return fmt.Errorf("answer %d is not the JSON expected: %w", a.status, err)
	}
	return nil
}

type request struct {
	kind    string // label in the report
	method  string
	url     string // path, or absolute for another server
	json    any
	form    url.Values
	key     bool // send an Idempotency-Key
	nav     bool
	another *fasthttp.Client
}

// do sends one request. A lost connection is an error; any answer is none.
func (f *fan) do(ctx context.Context, q request) (*answer, error) {
	select {
	case f.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-f.slots }()
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.Header.SetMethod(q.method)
	if strings.HasPrefix(q.url, "http") {
		req.SetRequestURI(q.url)
	} else {
		req.SetRequestURI("http://" + f.targets[f.edge].Host + q.url)
	}
	if q.nav {
		req.Header.Set("Accept", "text/html,application/xhtml+xml")
		req.Header.Set("Sec-Fetch-Mode", "navigate")
		req.Header.Set("Sec-Fetch-Dest", "document")
	} else {
		req.Header.Set("Accept", "application/json")
	}
	if q.key {
		req.Header.Set("Idempotency-Key", uuid.NewString())
	}
	switch {
	case q.json != nil:
		b, err := json.Marshal(q.json)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", q.kind, err)
		}
		req.Header.SetContentType("application/json")
		req.SetBody(b)
	case q.form != nil:
		req.Header.SetContentType("application/x-www-form-urlencoded")
		req.SetBodyString(q.form.Encode())
	}
	var err error
	pass := f.pass()
	began := time.Now()
	f.sent = began
	if q.another != nil {
		err = q.another.DoTimeout(req, resp, f.Timeout)
	} else {
		for k, v := range f.cookies {
			req.Header.SetCookie(k, v)
		}
		err = f.client.DoTimeout(req, resp, f.Timeout)
	}
	f.report.request(q.kind, time.Since(began), resp.StatusCode(), err)
	if err != nil {
		if q.another == nil && len(f.targets) > 1 && !errors.Is(err, fasthttp.ErrTimeout) && !errors.Is(err, fasthttp.ErrDialTimeout) {
			f.moveOn()
		}
		return nil, fmt.Errorf("%s: %w", q.kind, err)
	}
	a := &answer{status: resp.StatusCode(), decision: string(resp.Header.Peek("Stanchion-Decision")), body: bytes.Clone(resp.Body()), header: map[string]string{}}
	for _, h := range []string{"Location", "Refresh", "Retry-After"} {
		a.header[h] = string(resp.Header.Peek(h))
	}
	if q.another == nil {
		for k, v := range resp.Header.Cookies() {
			f.setCookie(string(k), v)
		}
		if a.decision == "pass" && pass != "" {
			f.witness(Fact{Kind: FactUse, Text: pass})
		}
		if now := f.pass(); now != pass && now != "" {
			f.witness(Fact{Kind: FactGrant, Text: now})
		}
	}
	return a, nil
}

// pass is the pass that the fan holds, if any.
func (f *fan) pass() string { return f.cookies["stanchion-pass-"+f.Room] }

func (f *fan) setCookie(name string, raw []byte) {
	var c fasthttp.Cookie
	if c.ParseBytes(raw) != nil {
		return
	}
	if c.MaxAge() < 0 || !c.Expire().IsZero() && c.Expire().Before(time.Now()) && !c.Expire().Equal(fasthttp.CookieExpireUnlimited) || len(c.Value()) == 0 {
		delete(f.cookies, name)
		return
	}
	f.cookies[name] = string(c.Value())
}

// witness tells what was acknowledged.
func (f *fan) witness(w Fact) {
	if f.Witness == nil {
		return
	}
	w.Fan, w.At, w.Sent, w.Guest = f.id, time.Now(), f.sent, f.cookies["shop-guest"]
	f.Witness(w)
}

func (f *fan) room(endpoint string) string { return f.Prefix + "/rooms/" + f.Room + "/" + endpoint }

// live is the fan's evening.
func (f *fan) live(ctx context.Context) Outcome {
	o, err := f.evening(ctx)
	switch {
	case ctx.Err() != nil:
		return Unfinished
	case err != nil:
		f.Log.Debug("fan failed", "fan", f.id, "err", err)
		return Failed
	}
	return o
}

var errClosed = errors.New("the room is closed")

func (f *fan) evening(ctx context.Context) (Outcome, error) {
	joined := time.Now()
	inside, err := f.arrive(ctx)
	if err != nil {
		return Failed, err
	}
	if !inside {
		if f.noScript {
			inside, err = f.waitByRefresh(ctx)
		} else {
			inside, err = f.waitByScript(ctx)
		}
		switch {
		case errors.Is(err, errClosed):
			return Closed, nil
		case err != nil:
			return Failed, err
		case !inside:
			return AbsentFan, nil
		}
	}
	f.inside = true
	f.report.waited(time.Since(joined))
	f.witness(Fact{Kind: FactPass, Text: f.pass()})
	return f.shop(ctx)
}

// arrive navigates to the entry: straight in, or into the line.
func (f *fan) arrive(ctx context.Context) (inside bool, err error) {
	a, err := f.patient(ctx, request{kind: "arrive", method: "GET", url: f.Entry, nav: true})
	if err != nil {
		return false, err
	}
	return admitted(a), nil
}

func admitted(a *answer) bool {
	return a.decision == "pass" || a.decision == "open" || a.decision == "bypass"
}

// patient repeats a request that was lost, shed or limited, as a browser or its person would: this is what a restart of the
// server looks like from outside. It gives up after a minute.
func (f *fan) patient(ctx context.Context, q request) (*answer, error) {
	give := time.Now().Add(time.Minute)
	for {
		a, err := f.do(ctx, q)
		wait := time.Second
		switch {
		case err == nil && a.status == 503 && a.decision == "wait" && f.inside:
			// Quiet for too long, or the server forgot a renewal when it was killed: come in again as a person would.
			if err := f.comeBack(ctx); err != nil {
				return nil, err
			}
			continue
		case err == nil && a.status != 429 && a.status < 500:
			return a, nil
		case err == nil:
			if s, perr := strconv.Atoi(a.header["Retry-After"]); perr == nil && s > 0 {
				wait = time.Duration(s) * time.Second
			}
			err = fmt.Errorf("%s: status %d: %.200s", q.kind, a.status, a.body)
		}
		if time.Now().After(give) {
			return nil, err
		}
		if !sleep(ctx, wait+time.Duration(f.jitter*float64(wait)/2)) {
			return nil, ctx.Err()
		}
	}
}

// comeBack is what a fan does whose pass has run out: open the page again, and wait if need be.
func (f *fan) comeBack(ctx context.Context) error {
	f.inside = false
	defer func() { f.inside = true }()
	in, err := f.arrive(ctx)
	if err == nil && !in {
		f.absent = false
		in, err = f.waitByScript(ctx)
	}
	if err == nil && !in {
		err = errors.New("the place inside is lost")
	}
	return err
}

type placeAnswer struct {
	Ticket string  `json:"ticket"`
	State  string  `json:"state"`
	Rank   *uint64 `json:"rank"`
	Ahead  *uint64 `json:"ahead"`
	Sample bool    `json:"sample"` // asked to show every minute that the fan is still there
}

// waitByScript does what the page's script does.
func (f *fan) waitByScript(ctx context.Context) (inside bool, err error) {
	a, err := f.patient(ctx, request{kind: "join", method: "POST", url: f.room("join"), json: struct{}{}})
	if err != nil {
		return false, err
	}
	var p placeAnswer
	if err := a.json(&p); err != nil {
		return false, err
	}
	if a.status == 410 {
		return false, errClosed
	}
	if p.State == string(line.StateAdmitted) {
		return true, nil
	}
	f.witness(Fact{Kind: FactPlace, Text: p.Ticket})
	shown := time.Now()
	for {
		a, err := f.patient(ctx, request{kind: "status", method: "GET", url: f.room("status")})
		if err != nil {
			return false, err
		}
		var st line.Status
		if err := a.json(&st); err != nil {
			return false, err
		}
		switch st.Phase {
		case line.PhaseEnded, line.PhaseSoldOut:
			return false, errClosed
		}
		if p.Rank == nil && st.Phase != line.PhaseLobby && st.Phase != line.PhaseDrawing {
			a, err := f.patient(ctx, request{kind: "place", method: "GET", url: f.room("place")})
			if err != nil {
				return false, err
			}
			if err := a.json(&p); err != nil {
				return false, err
			}
			shown = time.Now()
			if p.Rank != nil {
				f.witness(Fact{Kind: FactRank, Text: p.Ticket, Rank: *p.Rank})
				f.decide(*p.Rank)
			}
		}
		if f.absent && f.LeaveMean > 0 && !f.known.IsZero() && time.Since(f.known) > time.Duration(f.leave*float64(f.LeaveMean)) {
			return false, nil
		}
		if p.Sample && time.Since(shown) > time.Minute {
			if a, err = f.patient(ctx, request{kind: "place", method: "GET", url: f.room("place")}); err != nil {
				return false, err
			}
			again := p
			if err := a.json(&again); err != nil {
				return false, err
			}
			if again.Rank != nil {
				f.witness(Fact{Kind: FactRank, Text: again.Ticket, Rank: *again.Rank})
			}
			shown = time.Now()
		}
		if p.Rank != nil && len(st.Lanes) > 0 && st.Lanes[0].Ahead(*p.Rank) == 0 && *p.Rank < st.Lanes[0].Called {
			if f.absent {
				return false, nil
			}
			f.atDoor()
			inside, wait, err := f.claim(ctx)
			if inside || err != nil {
				return inside, err
			}
			if !sleep(ctx, wait) {
				return false, ctx.Err()
			}
			continue
		}
		if !sleep(ctx, f.nextPoll(st, p)) {
			return false, ctx.Err()
		}
	}
}

// decide draws whether a fan who has learnt the rank will be gone when called.
func (f *fan) decide(rank uint64) {
	if f.Absent != nil {
		f.absent = f.absence < f.Absent(rank)
	}
	if f.known.IsZero() {
		f.known = time.Now()
	}
}

// atDoor notes that the fan, who has been called, comes to the door.
func (f *fan) atDoor() {
	if f.called.IsZero() {
		f.called = time.Now()
		f.witness(Fact{Kind: FactDoor})
	}
}

// nextPoll is when the page asks again. Browsers wake a tab in the background once a minute.
func (f *fan) nextPoll(st line.Status, p placeAnswer) time.Duration {
	rank := line.NoRank
	if p.Rank != nil {
		rank = *p.Rank
	}
	d := st.NextPoll(0, rank, f.jitter)
	if f.hidden && rank != line.NoRank {
		d = max(d, time.Minute)
	}
	return d
}

func (f *fan) claim(ctx context.Context) (inside bool, wait time.Duration, err error) {
	a, err := f.do(ctx, request{kind: "claim", method: "POST", url: f.room("claim"), json: struct{}{}})
	if err != nil { // lost: claims are idempotent
		return false, time.Second, nil
	}
	if a.status == 200 {
		f.report.door(time.Since(f.called))
		return true, 0, nil
	}
	var p struct {
		Type       string `json:"type"`
		RetryAfter int64  `json:"retry_after_ms"`
	}
	if err := a.json(&p); err != nil {
		return false, 0, err
	}
	if a.status == 410 || a.status == 403 {
		f.witness(Fact{Kind: FactGone, Text: p.Type})
		return false, 0, fmt.Errorf("claim: %s", p.Type)
	}
	return false, max(time.Duration(p.RetryAfter)*time.Millisecond, 250*time.Millisecond), nil
}

// waitByRefresh reloads the page as its Refresh header says, and presses the button when it appears.
func (f *fan) waitByRefresh(ctx context.Context) (inside bool, err error) {
	wait := 2 * time.Second
	pressed := false
	for {
		if !sleep(ctx, wait) {
			return false, ctx.Err()
		}
		a, err := f.patient(ctx, request{kind: "page", method: "GET", url: f.Entry, nav: true})
		if err != nil {
			return false, err
		}
		if admitted(a) {
			return true, nil
		}
		refresh, _, _ := strings.Cut(a.header["Refresh"], ";")
		s, perr := strconv.Atoi(strings.TrimSpace(refresh))
		if bytes.Contains(a.body, []byte(f.room("claim"))) {
			if f.absent {
				return false, nil
			}
			f.atDoor()
			if !pressed { // the button's answer is the page that is fetched next
				if _, err := f.patient(ctx, request{kind: "claim form", method: "POST", url: f.room("claim"), form: url.Values{}, nav: true}); err != nil {
					return false, err
				}
				pressed, wait = true, 0
				continue
			}
			pressed = false // not let in yet: the person waits as the page says, and presses again
			wait = 2 * time.Second
			if perr == nil {
				wait = time.Duration(max(s, 1)) * time.Second
			}
			continue
		}
		if perr != nil { // a page that does not reload itself is a final one
			return false, errClosed
		}
		pressed, wait = false, time.Duration(s)*time.Second
	}
}
