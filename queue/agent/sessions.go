package agent

import (
	"encoding/base64"
	"sync"
	"time"

	"github.com/stanchion-queue/stanchion/pass"
	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// Of leases and passes.
const (
	passMarginMs  = 500    // a pass ends this long before its lease
	renewEveryMs  = 20_000 // a session in use is renewed this often
	worthAPassMs  = 1_500  // a new pass is signed when it lasts this much longer than the old one
	wishRetryMs   = 300    // an unconfirmed renewal is asked for again
	sessionShards = 64
)

// session is one admitted fan as this agent knows it. Times are store milliseconds.
type session struct {
	id        line.SessionID
	endMs     int64 // lease end: confirmed by the store, or prolonged alone in an outage; 0: not known here
	stayMs    int64
	maybeMs   int64 // lease end that the store may have given, though no answer said so
	passMs    int64 // end of the longest-lived pass seen here
	keepMs    int64 // remembered until then, when it has ended
	grantedMs int64 // when the lease was last confirmed or granted
	askedMs   int64 // when a renewal was last asked for
	wished    bool  // in the shard's list of renewals to send
	used      bool
	home      bool // this agent renews it
	ended     bool
	alone     bool               // prolonged without the store
	outage    *queue.OutageGrant // admitted while the store was away, not merged yet
	grant     *line.Grant        // the last pass signed here, for endMs
}

type sessionShard struct {
	mu     sync.Mutex
	byID   map[line.SessionID]*session
	wishes []line.SessionID
}

// sessions are those this agent has seen lately. Safe for concurrent use.
type sessions struct {
	shards [sessionShards]sessionShard
}

func newSessions() *sessions {
	t := &sessions{}
	for i := range t.shards {
		t.shards[i].byID = map[line.SessionID]*session{}
	}
	return t
}

func (t *sessions) shard(id line.SessionID) *sessionShard { return &t.shards[id[0]%sessionShards] }

// each visits every session under its shard's lock; the visitor returns false to drop it.
func (t *sessions) each(visit func(*session) (keep bool)) {
	for i := range t.shards {
		sh := &t.shards[i]
		sh.mu.Lock()
		for id, s := range sh.byID {
			if !visit(s) {
				delete(sh.byID, id)
			}
		}
		sh.mu.Unlock()
	}
}

// with runs f on a session under its lock; f gets nil when it is not known and create is false.
func (t *sessions) with(id line.SessionID, create bool, f func(*session)) {
	sh := t.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.byID[id]
	if s == nil && create {
		s = &session{id: id}
		sh.byID[id] = s
	}
	f(s)
}

// wish puts a renewal on the list; the shard's lock is held.
func (sh *sessionShard) wish(s *session, nowMs int64) {
	s.askedMs = nowMs
	if !s.wished {
		s.wished = true
		sh.wishes = append(sh.wishes, s.id)
	}
}

// renewable reports whether a session may still be renewed: its lease, or a pass of it seen here, is alive. What has run out may have
// been given to somebody else.
func (s *session) renewable(nowMs int64) bool {
	return !s.ended && (s.home && s.endMs > nowMs || s.passMs > nowMs)
}

// takeWishes empties the list of renewals to send.
func (t *sessions) takeWishes(nowMs, untilMs int64) []queue.Renewal {
	var out []queue.Renewal
	for i := range t.shards {
		sh := &t.shards[i]
		sh.mu.Lock()
		for _, id := range sh.wishes {
			if s := sh.byID[id]; s != nil {
				s.wished = false
				if !s.renewable(nowMs) {
					continue
				}
				s.maybeMs = max(s.maybeMs, untilMs)
				out = append(out, queue.Renewal{Session: id, UntilMs: untilMs})
			}
		}
		sh.wishes = sh.wishes[:0]
		sh.mu.Unlock()
	}
	return out
}

var sessionText = base64.RawURLEncoding.Strict()

// parseSession is line.ParseSessionID without its allocations.
func parseSession(text string) (id line.SessionID, ok bool) {
	var src [22]byte
	var dst [16]byte
	if len(text) != len(src) {
		return id, false
	}
	copy(src[:], text)
	n, err := sessionText.Decode(dst[:], src[:])
	return dst, err == nil && n == len(dst)
}

// Use notes that a verified pass (it may have run out) was used, and says what this agent knows of its session. It does no I/O
// and allocates nothing unless a fresh pass is signed. Leases are judged by the estimate of store time (see Now): a pass that is alive by
// the caller's clock and over by the store's counts as ended.
func (r *Room) Use(c pass.Claims, wall time.Time) line.Use {
	id, ok := parseSession(c.Session)
	if !ok {
		return line.Use{}
	}
	now, _, ok := r.clock.now()
	if !ok {
		return line.Use{}
	}
	snap := r.snap.Load()
	every := min(renewEveryMs, snap.control.Settings.IdleMs/3)
	expMs := c.ExpiresAt.UnixMilli()

	sh := r.sessions.shard(id)
	sh.mu.Lock()
	s := sh.byID[id]
	switch {
	case s == nil && expMs <= now: // not known here and out of time: it goes through the claim
		sh.mu.Unlock()
		return line.Use{Ended: wall.UnixMilli() < expMs}
	case s == nil: // its home is elsewhere, or was before a restart: ask to take it over
		s = &session{id: id, stayMs: c.StayUntil.UnixMilli(), passMs: expMs, used: true}
		sh.byID[id] = s
		sh.wish(s, now)
		sh.mu.Unlock()
		r.kickFlush()
		return line.Use{}
	case s.ended:
		sh.mu.Unlock()
		return line.Use{Ended: true}
	}
	s.passMs = max(s.passMs, expMs)
	kick := false
	alive := s.home && s.endMs > now
	if alive || expMs > now {
		if !s.used || now-s.askedMs >= every || !s.home && now-s.askedMs >= wishRetryMs {
			if !s.used || s.endMs < s.stayMs {
				kick = !s.wished
				sh.wish(s, now)
			}
			s.used = true
		}
	}
	if alive && r.outage.Load() != nil {
		r.extendAlone(s, now)
	}
	if !alive {
		sh.mu.Unlock()
		if kick {
			r.kickFlush()
		}
		return line.Use{Ended: expMs <= now && wall.UnixMilli() < expMs}
	}
	passMs := passEnd(s.endMs)
	endMs, stayMs, grant := s.endMs, s.stayMs, s.grant
	sh.mu.Unlock()
	if kick {
		r.kickFlush()
	}
	if passMs <= now || passMs-expMs < worthAPassMs && expMs > now {
		return line.Use{Alive: true}
	}
	if grant == nil || grant.ExpiresAt.UnixMilli() != passMs {
		g, err := r.sign(c.Line, c.Lane, c.KeyHash, id, endMs, stayMs, now)
		if err != nil {
			r.log.Warn("pass not signed", "session", id.String(), "error", err)
			return line.Use{Alive: true}
		}
		grant = &g
		sh.mu.Lock()
		s.grant, s.passMs = grant, max(s.passMs, passMs)
		sh.mu.Unlock()
	}
	return line.Use{Alive: true, Renewed: grant}
}

// passEnd is when the pass of a lease ends: passes have whole seconds.
func passEnd(leaseMs int64) int64 { return (leaseMs - passMarginMs) / 1000 * 1000 }

// sign makes the pass of a session's lease.
func (r *Room) sign(lineID string, lane uint8, keyHash string, id line.SessionID, endMs, stayMs, nowMs int64) (line.Grant, error) {
	g := line.Grant{Session: id, ExpiresAt: time.UnixMilli(passEnd(endMs)).UTC(), StayUntil: time.UnixMilli(stayMs).UTC()}
	text, err := r.o.Passes.Sign(pass.Claims{
		Issuer: r.o.Issuer, Room: r.name, Session: id.String(), Line: lineID, Lane: lane,
		IssuedAt: time.UnixMilli(nowMs).UTC(), ExpiresAt: g.ExpiresAt, StayUntil: g.StayUntil,
		Home: r.incarnation().String(), KeyHash: keyHash, SeatLimit: r.snap.Load().settings.SeatLimit,
	})
	if err != nil {
		return line.Grant{}, err
	}
	g.Pass = text
	return g, nil
}

// admitted notes a claim that the store granted.
func (r *Room) admitted(c queue.Claim, res queue.ClaimResult, nowMs int64) {
	r.sessions.with(c.Session, true, func(s *session) {
		s.ended, s.stayMs = false, res.StayMs
		if res.Again && s.endMs <= nowMs { // what lived here ran out, and came back through another edge: that is its home now
			s.home = false
		}
		s.endMs = max(s.endMs, res.EndMs)
		s.grantedMs, s.passMs = nowMs, max(s.passMs, passEnd(res.EndMs))
		if !res.Again { // a repeat leaves the session with the home it had
			s.home = true
		}
	})
	if !res.Again {
		r.mu.Lock()
		r.flush.spent = append(r.flush.spent, spentAt{queue.SpentStamp{Line: c.Line, Stamp: c.Stamp, Who: c.Who, WhoKind: c.WhoKind}, nowMs})
		r.mu.Unlock()
	}
}

// confirm takes the leases a flush reply confirmed.
func (r *Room) confirm(leases []queue.Lease, inc line.Incarnation, nowMs int64) {
	for _, l := range leases {
		if l.EndMs == 0 { // over or unknown: what pass is left runs out, and then goes through the claim
			r.sessions.with(l.Session, false, func(s *session) {
				if s != nil {
					s.home = false
				}
			})
			continue
		}
		r.sessions.with(l.Session, true, func(s *session) {
			s.home = l.Home == inc
			if !s.home {
				return
			}
			s.stayMs, s.grantedMs, s.outage, s.maybeMs = l.StayMs, nowMs, nil, l.EndMs
			if s.alone && s.endMs > l.EndMs {
				return // an answer to what was asked before the session was prolonged alone
			}
			s.endMs, s.alone = l.EndMs, false
		})
	}
}

// feed applies entries of the end feed and returns the position up to which it did. A session that was prolonged without the store may
// not move away before the store has heard of that: its new home would free the place while our pass lives. So the feed is
// read again from there once the renewal is confirmed.
func (r *Room) feed(entries []queue.FeedEntry, inc line.Incarnation, nowMs, keepMs int64) (applied int64) {
	for _, e := range entries {
		hold := false
		switch e.Kind {
		case queue.FeedEnded:
			r.sessions.with(e.Session, true, func(s *session) {
				s.ended, s.home = true, false
				s.keepMs = nowMs + keepMs
			})
		case queue.FeedMoved:
			if e.NewHome == inc {
				break
			}
			r.sessions.with(e.Session, false, func(s *session) {
				switch {
				case s == nil:
				case s.home && s.alone && s.renewable(nowMs):
					hold = true
				default:
					s.home = false
				}
			})
		}
		if hold {
			break
		}
		applied = e.Position
	}
	return applied
}

// sweep forgets sessions that are over. An ended one is remembered for as long as a pass of it may live somewhere.
func (r *Room) sweep(nowMs int64) (home int) {
	r.sessions.each(func(s *session) bool {
		if s.home {
			home++
		}
		return s.outage != nil || s.home && s.endMs+1000 > nowMs || max(s.endMs, s.passMs, s.keepMs) > nowMs
	})
	return home
}
