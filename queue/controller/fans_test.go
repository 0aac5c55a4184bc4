package controller_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stanchion-queue/stanchion/pass"
	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/agent"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// ledgerOfPasses judges the cap by what counts outside: passes that some edge would still honour. It believes neither store nor edges.
type ledgerOfPasses struct {
	mu      sync.Mutex
	until   map[line.SessionID]time.Time
	left    map[line.SessionID]bool
	highest int // most passes alive at one moment
	granted int
	late    []time.Time // grants, for rates
}

func newPasses() *ledgerOfPasses {
	return &ledgerOfPasses{until: map[line.SessionID]time.Time{}, left: map[line.SessionID]bool{}}
}

func (p *ledgerOfPasses) grant(g line.Grant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, again := p.until[g.Session]; !again {
		p.granted++
		p.late = append(p.late, time.Now())
	}
	if g.ExpiresAt.After(p.until[g.Session]) {
		p.until[g.Session] = g.ExpiresAt
	}
	delete(p.left, g.Session)
	now, n := time.Now(), 0
	for id, until := range p.until {
		if until.After(now) && !p.left[id] {
			n++
		}
	}
	p.highest = max(p.highest, n)
}

func (p *ledgerOfPasses) leave(id line.SessionID) {
	p.mu.Lock()
	p.left[id] = true
	p.mu.Unlock()
}

func (p *ledgerOfPasses) since(t time.Time) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, at := range p.late {
		if !at.Before(t) {
			n++
		}
	}
	return n
}

// switchboard lets a test cut one process off its store, or move it to another store.
type switchboard struct {
	queue.Store
	down atomic.Bool
	to   atomic.Pointer[queue.Store]
}

func plug(s queue.Store) *switchboard { return &switchboard{Store: s} }

// at is the store this process reaches; while it is cut off, calls hang until their deadline.
func (s *switchboard) at(ctx context.Context) (queue.Store, error) {
	if s.down.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if to := s.to.Load(); to != nil {
		return *to, nil
	}
	return s.Store, nil
}

func (s *switchboard) Control(ctx context.Context, room string) (queue.Control, error) {
	st, err := s.at(ctx)
	if err != nil {
		return queue.Control{}, err
	}
	return st.Control(ctx, room)
}

func (s *switchboard) Create(ctx context.Context, room string) error {
	st, err := s.at(ctx)
	if err != nil {
		return err
	}
	return st.Create(ctx, room)
}

func (s *switchboard) Flush(ctx context.Context, room string, f queue.Flush) (queue.FlushReply, error) {
	st, err := s.at(ctx)
	if err != nil {
		return queue.FlushReply{}, err
	}
	return st.Flush(ctx, room, f)
}

func (s *switchboard) Claim(ctx context.Context, room string, b queue.ClaimBatch) ([]queue.ClaimResult, error) {
	st, err := s.at(ctx)
	if err != nil {
		return nil, err
	}
	return st.Claim(ctx, room, b)
}

func (s *switchboard) Lead(ctx context.Context, room, old, token string) error {
	st, err := s.at(ctx)
	if err != nil {
		return err
	}
	return st.Lead(ctx, room, old, token)
}

func (s *switchboard) Beat(ctx context.Context, room, token string) error {
	st, err := s.at(ctx)
	if err != nil {
		return err
	}
	return st.Beat(ctx, room, token)
}

func (s *switchboard) Regen(ctx context.Context, room, token, next string) error {
	st, err := s.at(ctx)
	if err != nil {
		return err
	}
	return st.Regen(ctx, room, token, next)
}

func (s *switchboard) Restore(ctx context.Context, room string, r queue.Restore) error {
	st, err := s.at(ctx)
	if err != nil {
		return err
	}
	return st.Restore(ctx, room, r)
}

func (s *switchboard) Unsealed(ctx context.Context, room string, id line.ID, from, to line.Window) ([]queue.Row, error) {
	st, err := s.at(ctx)
	if err != nil {
		return nil, err
	}
	return st.Unsealed(ctx, room, id, from, to)
}

func (s *switchboard) Edges(ctx context.Context, room string) ([]queue.EdgeState, error) {
	st, err := s.at(ctx)
	if err != nil {
		return nil, err
	}
	return st.Edges(ctx, room)
}

func (s *switchboard) Seal(ctx context.Context, room string, x queue.Seal) error {
	st, err := s.at(ctx)
	if err != nil {
		return err
	}
	return st.Seal(ctx, room, x)
}

func (s *switchboard) Call(ctx context.Context, room string, c queue.Call) (queue.CallReply, error) {
	st, err := s.at(ctx)
	if err != nil {
		return queue.CallReply{}, err
	}
	return st.Call(ctx, room, c)
}

func (s *switchboard) Free(ctx context.Context, room, gen, token string) (int, error) {
	st, err := s.at(ctx)
	if err != nil {
		return 0, err
	}
	return st.Free(ctx, room, gen, token)
}

func (s *switchboard) Reap(ctx context.Context, room, gen, token string, e line.Incarnation, silentMs int64, now bool) (int, error) {
	st, err := s.at(ctx)
	if err != nil {
		return 0, err
	}
	return st.Reap(ctx, room, gen, token, e, silentMs, now)
}

func (s *switchboard) Open(ctx context.Context, room, gen, token string) error {
	st, err := s.at(ctx)
	if err != nil {
		return err
	}
	return st.Open(ctx, room, gen, token)
}

func (s *switchboard) Configure(ctx context.Context, room, gen, token string, x queue.Settings) error {
	st, err := s.at(ctx)
	if err != nil {
		return err
	}
	return st.Configure(ctx, room, gen, token, x)
}

func (s *switchboard) StartLine(ctx context.Context, room, gen, token string, x queue.LineState) error {
	st, err := s.at(ctx)
	if err != nil {
		return err
	}
	return st.StartLine(ctx, room, gen, token, x)
}

func (s *switchboard) UpdateLine(ctx context.Context, room, gen, token string, x queue.LineState) error {
	st, err := s.at(ctx)
	if err != nil {
		return err
	}
	return st.UpdateLine(ctx, room, gen, token, x)
}

func (s *switchboard) Line(ctx context.Context, room string, id line.ID) (queue.LineState, error) {
	st, err := s.at(ctx)
	if err != nil {
		return queue.LineState{}, err
	}
	return st.Line(ctx, room, id)
}

func (s *switchboard) LedgerChunk(ctx context.Context, room string, id line.ID, lane uint8, c uint32) ([]byte, error) {
	st, err := s.at(ctx)
	if err != nil {
		return nil, err
	}
	return st.LedgerChunk(ctx, room, id, lane, c)
}

// crowd is fans who behave: they join, poll, come when called, look around, and leave or just go away.
type crowd struct {
	w      *world
	edges  []*agent.Room
	passes *ledgerOfPasses
	absent float64 // share of called fans who never come
	silent float64 // share of those inside who go without a word
	roams  float64 // chance that a request goes to another edge than the last
	dwell  time.Duration

	mu     sync.Mutex
	served int // came in and finished
	gone   int // never came
	failed []error
}

var errGrew = errors.New("the place grew")

// fan is one of them. It returns when the fan is done.
func (c *crowd) fan(ctx context.Context, rnd *rand.Rand) {
	edge := c.pick(rnd)
	hop := func() *agent.Room {
		if rnd.Float64() < c.roams {
			edge = c.pick(rnd)
		}
		return edge
	}
	rest := func(d time.Duration) bool {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(d):
			return true
		}
	}
	var place line.Place
	for {
		p, err := hop().Join(ctx, line.JoinRequest{Admit: true})
		if err == nil {
			place = p
			break
		}
		if !rest(time.Second) {
			return
		}
	}
	var grant line.Grant
	last := line.NoRank
	absent := rnd.Float64() < c.absent
	if place.Pass != nil {
		grant = *place.Pass
	}
	for grant.Pass == "" {
		if !rest(time.Duration(500+rnd.IntN(2000)) * time.Millisecond) {
			return
		}
		p, err := hop().Place(ctx, place.Ticket)
		if err != nil {
			continue
		}
		place = p
		if p.Known {
			if p.Rank > last {
				c.fail(errGrew)
			}
			last = p.Rank
		}
		if p.State == line.StateWaiting || p.State == line.StateLobby {
			// A cut-off edge calls by its schedule: come and see.
			if !edge.View().Stale || !p.Known {
				continue
			}
		}
		if absent {
			c.mu.Lock()
			c.gone++
			c.mu.Unlock()
			return
		}
		g, p, err := hop().Claim(ctx, line.ClaimRequest{Ticket: place.Ticket, Wait: true})
		if p.Ticket != "" {
			place.Ticket = p.Ticket
		}
		switch {
		case err == nil:
			grant = g
		case code(err) == line.RefusedSpent || code(err) == line.RefusedLineOver || code(err) == line.RefusedTicket:
			c.fail(err)
			return
		}
	}
	c.passes.grant(grant)
	v, read, claims := c.w.passes.Verifier(), "", pass.Claims{}
	until := time.Now().Add(time.Duration(float64(c.dwell) * (0.5 + rnd.Float64())))
	for time.Now().Before(until) {
		if !rest(time.Duration(3000+rnd.IntN(6000)) * time.Millisecond) {
			return
		}
		if grant.Pass != read { // edges remember what they have verified, too
			var err error
			if claims, err = v.Verify(grant.Pass, roomName, time.Now()); err != nil && !errors.Is(err, pass.ErrExpired) {
				c.fail(err)
				return
			}
			read = grant.Pass
		}
		expired := !time.Now().Before(claims.ExpiresAt)
		u := hop().Use(claims, time.Now())
		if u.Ended {
			break
		}
		if u.Renewed != nil {
			grant = *u.Renewed
			c.passes.grant(grant)
		} else if expired && !u.Alive { // ran out: in again by the same ticket, if there was one
			if place.Ticket == "" {
				break
			}
			if g, _, err := edge.Claim(ctx, line.ClaimRequest{Ticket: place.Ticket, Wait: true}); err == nil {
				grant = g
				c.passes.grant(grant)
			} else if code(err) == line.RefusedSpent {
				c.fail(err)
				return
			}
		}
	}
	if rnd.Float64() >= c.silent {
		c.passes.leave(grant.Session)
		if err := edge.Leave(ctx, grant.Session); err != nil {
			c.fail(err)
		}
	}
	c.mu.Lock()
	c.served++
	c.mu.Unlock()
}

// pick is one of the edges that live.
func (c *crowd) pick(rnd *rand.Rand) *agent.Room {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.edges[rnd.IntN(len(c.edges))]
}

func (c *crowd) fail(err error) {
	c.mu.Lock()
	c.failed = append(c.failed, err)
	c.mu.Unlock()
}

func (c *crowd) done() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.served + c.gone
}

// send lets n fans arrive, evenly within a time.
func (c *crowd) send(ctx context.Context, n int, within time.Duration, seed uint64) *sync.WaitGroup {
	var wg sync.WaitGroup
	for i := range n {
		rnd := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Duration(rnd.Int64N(int64(within) + 1))):
			}
			c.fan(ctx, rnd)
		})
	}
	return &wg
}

func (c *crowd) check(most int) {
	t := c.w.t
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, err := range c.failed {
		if i == 5 {
			break
		}
		t.Errorf("a fan's trouble: %v", err)
	}
	if n := len(c.failed); n > 0 {
		t.Errorf("%d fans had trouble", n)
	}
	if c.passes.highest > most {
		t.Errorf("%d passes were alive at once, the cap is %d", c.passes.highest, most)
	}
}

// Three edges, two controllers and 2,000 fans of whom 40% never come: everybody is served, never more than the cap.
func TestCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := volatile(t)
		defer store.Close()
		w := newWorld(t, store)
		set := settings(func(s *room.Settings) { s.Cap, s.RatePerSecond, s.IdleS, s.FirstLeaseS = 100, 100, 20, 15 })
		w.controller("c1", store, set)
		w.controller("c2", store, set)
		c := &crowd{w: w, passes: newPasses(), absent: 0.4, silent: 0.3, roams: 0.1, dwell: 30 * time.Second}
		for _, name := range []string{"e1", "e2", "e3"} {
			c.edges = append(c.edges, w.agent(name, store).it)
		}
		w.until("open", 5*time.Second, func() bool { return c.edges[2].View().Open })
		start := time.Now()
		wg := c.send(t.Context(), 2000, 20*time.Second, 1)
		wg.Wait()
		c.check(100)
		took := time.Since(start)
		// 1,200 fans come, 30 s inside on average, and 30% of them hold their place for the idle time: about 430 s of a full room.
		if took > 700*time.Second {
			t.Errorf("the crowd took %s: places stood empty", took)
		}
		t.Logf("took %s, highest %d, granted %d", took, c.passes.highest, c.passes.granted)
	})
}
