package redisqueue

import (
	"cmp"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/rueidis"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// Options configure a Store.
type Options struct {
	Addresses      []string // host:port of the server, of the Sentinels, or of some nodes of the cluster
	SentinelMaster string   // name of the primary's group: Addresses are Sentinels
	Cluster        bool     // Addresses are nodes of a cluster

	Username, Password                 string
	SentinelUsername, SentinelPassword string
	TLS                                *tls.Config

	Prefix      string // before every key; "stanchion:" when empty. It must not contain { or }
	MinReplicas int    // a claim counts once so many replicas, at least, have it; 0 for a single server with appendfsync always

	WaitFor      time.Duration // how long to wait for replicas; 50 ms when zero
	DialTimeout  time.Duration // 200 ms when zero
	WriteTimeout time.Duration // of a connection, 500 ms when zero: a server silent for longer is given up

	Logger     *slog.Logger          // discarded when nil
	Registerer prometheus.Registerer // no metrics when nil
}

const (
	// rueidis stalls for seconds when a connection's ring is full, so we stay below half of what the rings hold.
	ringScale   = 10
	multiplex   = 2
	maxInFlight = (1 << ringScale) * (1 << multiplex) / 2

	restoreAtOnce = 1000 // sessions or stamps in one script
)

// ErrBusy is returned before anything was sent, when too many steps are under way.
var ErrBusy = errors.New("redisqueue: too many steps under way")

// Store implements queue.Store on Redis. It is safe for concurrent use.
type Store struct {
	opt     Options
	log     *slog.Logger
	client  rueidis.Client
	servers servers
	flying  chan struct{}
	metrics metrics

	mu    sync.Mutex
	rooms map[string]*atomic.Pointer[known]
}

var _ queue.Store = (*Store)(nil)

// Open connects and refuses servers on which rooms would not be safe.
func Open(ctx context.Context, o Options) (*Store, error) {
	if len(o.Addresses) == 0 {
		return nil, errors.New("redisqueue: no addresses")
	}
	if o.Cluster && o.SentinelMaster != "" {
		return nil, errors.New("redisqueue: a cluster has no sentinel master: set one of the two")
	}
	if o.Prefix == "" {
		o.Prefix = "stanchion:"
	}
	if strings.ContainsAny(o.Prefix, "{}") {
		return nil, fmt.Errorf("redisqueue: prefix %q holds { or }, which would move rooms to other slots", o.Prefix)
	}
	if o.MinReplicas < 0 {
		return nil, fmt.Errorf("redisqueue: min_replicas %d: want 0 or more", o.MinReplicas)
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&o.WaitFor, 50 * time.Millisecond}, {&o.DialTimeout, 200 * time.Millisecond}, {&o.WriteTimeout, 500 * time.Millisecond}} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	dialer := net.Dialer{Timeout: o.DialTimeout}
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: o.Addresses, Username: o.Username, Password: o.Password, TLSConfig: o.TLS, Dialer: dialer,
		Sentinel: rueidis.SentinelOption{
			MasterSet: o.SentinelMaster, Username: o.SentinelUsername, Password: o.SentinelPassword, TLSConfig: o.TLS, Dialer: dialer,
			TopologyRefreshInterval: 5 * time.Second, // a missed switch would bind us to the old primary for ever
		},
		ClusterOption:     rueidis.ClusterOption{ShardsRefreshInterval: 10 * time.Second, MaxMovedRedirections: 5},
		ForceSingleClient: !o.Cluster && o.SentinelMaster == "",
		ClientName:        "stanchion", ConnWriteTimeout: o.WriteTimeout,
		DisableRetry: true, // a step is repeated by its caller, who knows what it means
		DisableCache: true, RingScaleEachConn: ringScale, PipelineMultiplex: multiplex,
		ReadBufferEachConn: 1 << 16, WriteBufferEachConn: 1 << 16, BlockingPoolSize: 256, BlockingPoolMinSize: 4, BlockingPoolCleanup: time.Minute,
	})
	if err != nil {
		return nil, fmt.Errorf("redisqueue: connect to %s: %w", strings.Join(o.Addresses, ", "), err)
	}
	s := &Store{
		opt: o, log: o.Logger, client: client, flying: make(chan struct{}, maxInFlight), rooms: map[string]*atomic.Pointer[known]{},
		servers: servers{client: client, load: make(chan struct{}, 1), byRoom: map[string]*server{}, byRun: map[string]*server{}},
	}
	if err := s.checkServers(ctx); err != nil {
		client.Close()
		return nil, err
	}
	if err := s.metrics.register(o.Registerer, s); err != nil {
		client.Close()
		return nil, fmt.Errorf("redisqueue: register metrics: %w", err)
	}
	return s, nil
}

// checkServers looks at every primary that is known at the start.
func (s *Store) checkServers(ctx context.Context) error {
	primaries := 0
	for addr, node := range s.client.Nodes() {
		text, err := node.Do(ctx, node.B().Info().Build()).ToString()
		if err != nil {
			return fmt.Errorf("redisqueue: %s: %w", addr, err)
		}
		info := parseInfo(text)
		if s.opt.Cluster && info["role"] != "master" {
			continue // a replica may be reached in a cluster, but is never asked
		}
		if err := info.check(); err != nil {
			return fmt.Errorf("redisqueue: %s: %w", addr, err)
		}
		primaries++
		if s.opt.MinReplicas == 0 && info["aof_enabled"] == "0" {
			s.log.Warn("redis writes no append-only file and min_replicas is 0: a crash of the server loses who is inside", "address", addr)
		}
	}
	if primaries == 0 {
		return fmt.Errorf("redisqueue: no primary at %s", strings.Join(s.opt.Addresses, ", "))
	}
	return nil
}

// Close closes all connections.
func (s *Store) Close() error {
	s.metrics.unregister(s.opt.Registerer)
	s.client.Close()
	return nil
}

func (s *Store) key(room string) string { return s.opt.Prefix + "{" + room + "}:c" }

func (s *Store) known(room string) *atomic.Pointer[known] {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.rooms[room]
	if k == nil {
		k = &atomic.Pointer[known]{}
		k.Store(&known{})
		s.rooms[room] = k
	}
	return k
}

// run runs a step's script. With confirm it goes by a connection of its own, with WAIT in the same round trip, and replicated says
// whether enough replicas have it.
func (s *Store) run(ctx context.Context, room string, sc *script, confirm bool, args ...string) (r *reader, replicated bool, err error) {
	select {
	case s.flying <- struct{}{}:
		defer func() { <-s.flying }()
	default:
		s.metrics.busy.Inc()
		return nil, false, ErrBusy
	}
	began := time.Now()
	defer func() { s.metrics.observe(sc, time.Since(began), err) }()
	if strings.ContainsAny(room, "{}") {
		return nil, false, queue.ErrNoRoom
	}
	key := s.key(room)
	for try := 0; ; try++ {
		srv, err := s.servers.find(ctx, room, key)
		if err != nil {
			return nil, false, fmt.Errorf("redisqueue: %s: %w", sc.name, err)
		}
		res, replicated := s.send(ctx, srv, key, sc, confirm, args)
		// Another process answers now, or the scripts were flushed. Nothing ran, so the step is simply sent again.
		if rerr, ok := rueidis.IsRedisErr(res.Error()); ok && rerr.IsNoScript() && try < 3 {
			s.servers.forget(room, srv)
			continue
		}
		r, err := s.decode(sc, srv, res)
		return r, replicated, err
	}
}

// send sends a script once.
func (s *Store) send(ctx context.Context, srv *server, key string, sc *script, confirm bool, args []string) (res rueidis.RedisResult, replicated bool) {
	b := s.client.B()
	cmd := b.Evalsha().Sha1(srv.sha[sc.at]).Numkeys(1).Key(key).Arg(args...).Build()
	if !confirm {
		return s.client.Do(ctx, cmd), true
	}
	n := s.replicas(srv, key)
	cmds := rueidis.Commands{cmd}
	if n > 0 {
		cmds = append(cmds, b.Wait().Numreplicas(n).Timeout(s.opt.WaitFor.Milliseconds()).Build())
	}
	err := s.client.Dedicated(func(c rueidis.DedicatedClient) error {
		all := c.DoMulti(ctx, cmds...)
		res = all[0]
		replicated = n == 0
		if n > 0 {
			got, err := all[1].AsInt64()
			replicated = err == nil && got >= n
		}
		return nil
	})
	if err != nil {
		return rueidis.RedisResult{}, false
	}
	if !replicated {
		s.metrics.unreplicated.Inc()
	}
	return res, replicated
}

// replicas is how many replicas have to confirm: those in sync at the last look, at least the configured number.
func (s *Store) replicas(srv *server, key string) int64 {
	if now := time.Now().UnixMilli(); now-srv.polled.Load() >= replicaView.Milliseconds() && srv.polling.CompareAndSwap(false, true) {
		go func() {
			defer srv.polling.Store(false)
			ctx, cancel := context.WithTimeout(context.Background(), s.opt.WriteTimeout)
			defer cancel()
			cmd := s.client.B().Evalsha().Sha1(srv.sha[scriptInfo.at]).Numkeys(1).Key(key).Build()
			text, err := s.client.Do(ctx, cmd).ToString()
			if err != nil {
				return // the next step that needs replicas looks again; meanwhile the last number holds
			}
			srv.replicas.Store(parseInfo(text).inSync())
			srv.polled.Store(now)
		}()
	}
	return max(srv.replicas.Load(), int64(s.opt.MinReplicas))
}

// decode turns a script's verdict into the contract's errors.
func (s *Store) decode(sc *script, srv *server, res rueidis.RedisResult) (*reader, error) {
	items, err := res.ToArray()
	if err != nil {
		if rerr, ok := rueidis.IsRedisErr(err); ok && strings.Contains(rerr.Error(), "NOREPLICAS") {
			return nil, queue.ErrReplication
		}
		return nil, fmt.Errorf("redisqueue: %s: %w", sc.name, err)
	}
	r := &reader{runID: srv.runID, items: items}
	switch code := r.str(); code {
	case "ok":
		return r, nil
	case "gen":
		return nil, &queue.GenError{Gen: r.str(), RunID: srv.runID}
	case "lanes":
		return nil, fmt.Errorf("redisqueue: %s: the line has %d lanes", sc.name, r.int())
	case "not-current":
		return nil, fmt.Errorf("redisqueue: %s: the line was started before and is not current", sc.name)
	default:
		if known, ok := verdicts[code]; ok {
			return nil, known
		}
		return nil, fmt.Errorf("redisqueue: %s: %w: verdict %q", sc.name, errReply, code)
	}
}

var verdicts = map[string]error{
	"no-room": queue.ErrNoRoom, "not-leader": queue.ErrNotLeader, "clone": queue.ErrClone, "chain": queue.ErrChain, "backwards": queue.ErrBackwards,
	"not-idle": queue.ErrNotIdle, "no-line": queue.ErrNoLine, "gen-set": queue.ErrGenSet, "unknown-edge": queue.ErrUnknownEdge,
}

// step runs a script whose reply says nothing but "ok". What a leader changes must have reached the replicas.
func (s *Store) step(ctx context.Context, room string, sc *script, confirm bool, args ...string) error {
	_, replicated, err := s.run(ctx, room, sc, confirm, args...)
	if err == nil && !replicated {
		return queue.ErrReplication
	}
	return err
}

var roomName = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// Create implements queue.Store.
func (s *Store) Create(ctx context.Context, room string) error {
	if !roomName.MatchString(room) {
		return fmt.Errorf("redisqueue: room name %q: want 1 to 32 of a-z, 0-9 and -", room)
	}
	return s.step(ctx, room, scriptCreate, true)
}

// Control implements queue.Store.
func (s *Store) Control(ctx context.Context, room string) (queue.Control, error) {
	store := s.known(room)
	k := store.Load()
	r, _, err := s.run(ctx, room, scriptControl, false, k.settingsDigest, k.forecastDigest)
	if err != nil {
		return queue.Control{}, err
	}
	c, next := r.control(k)
	if r.err != nil {
		return queue.Control{}, fmt.Errorf("redisqueue: control: %w", r.err)
	}
	store.Store(next)
	return c, nil
}

// Flush implements queue.Store.
func (s *Store) Flush(ctx context.Context, room string, f queue.Flush) (queue.FlushReply, error) {
	if f.Edge == 0 {
		return queue.FlushReply{}, errors.New("redisqueue: flush without an edge")
	}
	store := s.known(room)
	k := store.Load()
	confirm := len(f.Renewals)+len(f.Ends)+len(f.Outage) > 0
	r, replicated, err := s.run(ctx, room, scriptFlush, confirm, flushArgs(&f, k)...)
	if err != nil {
		return queue.FlushReply{}, err
	}
	reply := queue.FlushReply{Replicated: replicated, Reaped: r.int() == 1}
	var next *known
	reply.Control, next = r.control(k)
	if !reply.Reaped {
		leases := r.list()
		for len(leases.items) > 0 && leases.err == nil {
			l := queue.Lease{Session: leases.session(), EndMs: leases.int(), StayMs: leases.int()}
			if l.EndMs > 0 {
				l.Home = f.Edge
			}
			reply.Leases = append(reply.Leases, l)
		}
		r.fail(leases.err)
		var id line.ID
		if current := r.str(); current != "" {
			r.fail(id.UnmarshalText([]byte(current)))
		}
		reply.Seals = r.seals(id, r.list(), r.list())
		reply.Feed = r.feed()
	}
	if r.err != nil {
		return queue.FlushReply{}, fmt.Errorf("redisqueue: flush: %w", r.err)
	}
	store.Store(next)
	if !replicated {
		reply.Leases = nil // only a lease that the replicas know may become a pass
	}
	return reply, nil
}

func flushArgs(f *queue.Flush, k *known) []string {
	args := make([]string, 0, 19+5*len(f.Rows)+2*len(f.Renewals)+len(f.Ends)+3*len(f.Arrivals)+8*len(f.Outage))
	args = append(args, f.Gen, f.Edge.String(), utoa(f.No), fmt.Sprintf("%016x", f.Digest()), itoa(f.MarkMs), itoa(f.Cursor), lineArg(f.Line),
		utoa(uint64(f.Complete)), utoa(uint64(f.SealedSeen)), f.Label, flag(f.Bye), parkedArg(f.Parked), k.settingsDigest, k.forecastDigest,
		itoa(int64(len(f.Rows))), itoa(int64(len(f.Renewals))), itoa(int64(len(f.Ends))), itoa(int64(len(f.Arrivals))),
		itoa(int64(len(f.Outage))))
	for _, row := range f.Rows {
		inc := row.Edge
		if inc == 0 {
			inc = f.Edge
		}
		args = append(args, row.Line.String(), utoa(uint64(row.Win)), utoa(uint64(row.Lane)), inc.String(), utoa(uint64(row.Count)))
	}
	for _, ren := range f.Renewals {
		args = append(args, string(ren.Session[:]), itoa(ren.UntilMs))
	}
	for _, sid := range f.Ends {
		args = append(args, string(sid[:]))
	}
	for _, a := range f.Arrivals {
		args = append(args, utoa(uint64(a.Lane)), itoa(a.AgeMs), utoa(uint64(a.Count)))
	}
	for i := range f.Outage {
		l := &f.Outage[i].Lease
		args = append(args, string(l.Session[:]), itoa(l.EndMs), itoa(l.StayMs))
		args = appendSpent(args, &f.Outage[i].Spent)
	}
	return args
}

// Claim implements queue.Store.
func (s *Store) Claim(ctx context.Context, room string, b queue.ClaimBatch) ([]queue.ClaimResult, error) {
	if len(b.Claims) > queue.MaxClaims {
		return nil, fmt.Errorf("redisqueue: batch of %d claims, at most %d", len(b.Claims), queue.MaxClaims)
	}
	args := make([]string, 0, 3+11*len(b.Claims))
	args = append(args, b.Gen, b.Edge.String(), flag(b.Parked))
	for i := range b.Claims {
		c := &b.Claims[i]
		id := c.Line.String()
		args = append(args, id, utoa(uint64(c.Lane)), utoa(c.Rank), spentKey(id, c.Stamp), spentBit(c.Stamp), string(c.Session[:]),
			holdersKey(id, c.WhoKind, c.Who), holderMember(c.Who), c.Group, utoa(uint64(c.Door)), flag(c.Enter))
	}
	r, replicated, err := s.run(ctx, room, scriptClaim, true, args...)
	if err != nil {
		return nil, err
	}
	out := make([]queue.ClaimResult, len(b.Claims))
	for i := range out {
		out[i] = queue.ClaimResult{
			Status: queue.ClaimStatus(r.int()), EndMs: r.int(), StayMs: r.int(), RetryMs: r.int(), Called: r.uint(), Again: r.int() == 1,
		}
	}
	if r.err != nil {
		return nil, fmt.Errorf("redisqueue: claim: %w", r.err)
	}
	if !replicated {
		return out, queue.ErrReplication
	}
	return out, nil
}

// Lead implements queue.Store.
func (s *Store) Lead(ctx context.Context, room, old, token string) error {
	if token == "" {
		return errors.New("redisqueue: lead: empty token")
	}
	return s.step(ctx, room, scriptLead, false, old, token)
}

// Beat implements queue.Store.
func (s *Store) Beat(ctx context.Context, room, token string) error {
	return s.step(ctx, room, scriptBeat, false, token)
}

// Regen implements queue.Store.
func (s *Store) Regen(ctx context.Context, room, token, next string) error {
	return s.step(ctx, room, scriptRegen, true, token, next)
}

// Restore implements queue.Store. What an edge knows may be much: it is given back in pieces, each of which may be repeated.
func (s *Store) Restore(ctx context.Context, room string, in queue.Restore) error {
	if in.Edge == 0 {
		return errors.New("redisqueue: restore without an edge")
	}
	send := func(p queue.Restore) error {
		return s.step(ctx, room, scriptRestore, true, restoreArgs(&in, &p)...)
	}
	// Seals first: a lane is called up to its total at most.
	for _, seal := range in.Seals {
		if !even(seal) {
			continue
		}
		if err := send(queue.Restore{Seals: []queue.SealedRange{seal}}); err != nil {
			return err
		}
	}
	sessions, spent := in.Sessions, in.Spent
	for first := true; first || len(sessions) > 0 || len(spent) > 0; first = false {
		p := queue.Restore{Sessions: sessions[:min(len(sessions), restoreAtOnce)], Spent: spent[:min(len(spent), restoreAtOnce)]}
		sessions, spent = sessions[len(p.Sessions):], spent[len(p.Spent):]
		if first {
			p.Called = in.Called
		}
		if err := send(p); err != nil {
			return err
		}
	}
	return nil
}

func appendSpent(args []string, s *queue.SpentStamp) []string {
	id := s.Line.String()
	return append(args, id, spentKey(id, s.Stamp), spentBit(s.Stamp), holdersKey(id, s.WhoKind, s.Who), holderMember(s.Who))
}

func even(g queue.SealedRange) bool {
	for _, c := range g.Counts {
		if g.To <= g.From || len(c) != int(g.To-g.From) {
			return false
		}
	}
	return true
}

func restoreArgs(in, p *queue.Restore) []string {
	var args, called []string
	n := 0
	for id, lanes := range p.Called {
		for lane, x := range lanes {
			called = append(called, id.String(), itoa(int64(lane)), utoa(x))
			n++
		}
	}
	args = append(args, in.Edge.String(), in.Label, itoa(int64(len(p.Sessions))), itoa(int64(len(p.Spent))), itoa(int64(n)), itoa(int64(len(p.Seals))))
	for _, l := range p.Sessions {
		args = append(args, string(l.Session[:]), itoa(l.EndMs), itoa(l.StayMs))
	}
	for i := range p.Spent {
		args = appendSpent(args, &p.Spent[i])
	}
	args = append(args, called...)
	for _, g := range p.Seals {
		args = append(args, g.Line.String(), utoa(uint64(g.From)), utoa(uint64(g.To)), string(g.Chain[:]), itoa(int64(len(g.Counts))))
		for _, c := range g.Counts {
			args = append(args, counts(c))
		}
	}
	return args
}

// Unsealed implements queue.Store.
func (s *Store) Unsealed(ctx context.Context, room string, id line.ID, from, to line.Window) ([]queue.Row, error) {
	r, _, err := s.run(ctx, room, scriptUnsealed, false, id.String(), utoa(uint64(from)), utoa(uint64(to)))
	if err != nil {
		return nil, err
	}
	rows := r.rows(id)
	if r.err != nil {
		return nil, fmt.Errorf("redisqueue: unsealed: %w", r.err)
	}
	return rows, nil
}

// Edges implements queue.Store.
func (s *Store) Edges(ctx context.Context, room string) ([]queue.EdgeState, error) {
	r, _, err := s.run(ctx, room, scriptEdges, false)
	if err != nil {
		return nil, err
	}
	current := r.str()
	in := r.list()
	arrivals := r.arrivals()
	var out []queue.EdgeState
	for len(in.items) > 0 && in.err == nil {
		e, err := parseEdge(in.str(), in.str(), current)
		in.fail(err)
		e.Sessions = in.int()
		e.Arrivals = arrivals[e.Edge]
		sortArrivals(e.Arrivals)
		out = append(out, e)
	}
	if err := r.done(in); err != nil {
		return nil, fmt.Errorf("redisqueue: edges: %w", err)
	}
	slices.SortFunc(out, func(a, b queue.EdgeState) int { return cmp.Compare(a.Edge, b.Edge) })
	return out, nil
}

// Seal implements queue.Store.
func (s *Store) Seal(ctx context.Context, room string, in queue.Seal) error {
	if in.To <= in.From {
		return fmt.Errorf("redisqueue: seal of windows [%d, %d)", in.From, in.To)
	}
	args := []string{in.Gen, in.Token, in.Line.String(), utoa(uint64(in.From)), utoa(uint64(in.To)), string(in.Prev[:]), string(in.Next[:])}
	for _, c := range in.Counts {
		if len(c) != int(in.To-in.From) {
			return fmt.Errorf("redisqueue: seal of windows [%d, %d) has %d counts", in.From, in.To, len(c))
		}
		args = append(args, counts(c))
	}
	return s.step(ctx, room, scriptSeal, true, args...)
}

// Call implements queue.Store.
func (s *Store) Call(ctx context.Context, room string, c queue.Call) (queue.CallReply, error) {
	args := []string{c.Gen, c.Token, string(c.Forecast), digest(c.Forecast)}
	add := func(id line.ID, called []uint64) {
		args = append(args, id.String(), itoa(int64(len(called))))
		for _, x := range called {
			args = append(args, utoa(x))
		}
	}
	if !c.Line.IsZero() {
		add(c.Line, c.Called)
	}
	for id := range maps.Keys(c.Honoured) {
		add(id, c.Honoured[id])
	}
	r, _, err := s.run(ctx, room, scriptCall, false, args...)
	if err != nil {
		return queue.CallReply{}, err
	}
	reply := queue.CallReply{StoreMs: r.int(), Active: r.int(), FreedTotal: r.int(), GrantedTotal: r.int()}
	parked := r.list()
	for len(parked.items) > 0 && parked.err == nil {
		reply.Parked = append(reply.Parked, parked.int())
	}
	type key struct {
		lane uint8
		age  int64
	}
	sum := map[key]uint32{}
	for _, list := range r.arrivals() {
		for _, a := range list {
			sum[key{a.Lane, a.AgeMs}] += a.Count
		}
	}
	for k, n := range sum {
		reply.Arrivals = append(reply.Arrivals, queue.Arrival{Lane: k.lane, AgeMs: k.age, Count: n})
	}
	sortArrivals(reply.Arrivals)
	if err := r.done(parked); err != nil {
		return queue.CallReply{}, fmt.Errorf("redisqueue: call: %w", err)
	}
	return reply, nil
}

func digest(b []byte) string {
	sum := sha1.Sum(b)
	return hex.EncodeToString(sum[:])
}

// Free implements queue.Store.
func (s *Store) Free(ctx context.Context, room, gen, token string) (int, error) {
	return s.number(ctx, room, scriptFree, gen, token)
}

// Reap implements queue.Store.
func (s *Store) Reap(ctx context.Context, room, gen, token string, edge line.Incarnation, silentMs int64, now bool) (int, error) {
	return s.number(ctx, room, scriptReap, gen, token, edge.String(), itoa(silentMs), flag(now))
}

// number runs a script that answers with one number.
func (s *Store) number(ctx context.Context, room string, sc *script, args ...string) (int, error) {
	r, _, err := s.run(ctx, room, sc, false, args...)
	if err != nil {
		return 0, err
	}
	n := r.int()
	if r.err != nil {
		return 0, fmt.Errorf("redisqueue: %s: %w", sc.name, r.err)
	}
	return int(n), nil
}

// Open implements queue.Store.
func (s *Store) Open(ctx context.Context, room, gen, token string) error {
	return s.step(ctx, room, scriptOpen, false, gen, token)
}

// Configure implements queue.Store.
func (s *Store) Configure(ctx context.Context, room, gen, token string, in queue.Settings) error {
	in = in.WithDefaults()
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("redisqueue: encode settings: %w", err)
	}
	gap := 0.0
	if in.RatePerSecond > 0 {
		gap = 1000 / in.RatePerSecond
	}
	return s.step(ctx, room, scriptConfigure, true, gen, token, string(body), digest(body), itoa(in.Cap), ftoa(gap), ftoa(in.BurstS*1000),
		itoa(in.FirstLeaseMs), itoa(in.EnterLeaseMs), itoa(in.IdleMs), itoa(in.StayMaxMs), itoa(in.GraceMs), itoa(in.ReturnMs),
		ftoa(in.LateShare), itoa(in.LateFloor), ftoa(in.NetworkShare), itoa(in.NetworkFloor), in.Pause)
}

// StartLine implements queue.Store.
func (s *Store) StartLine(ctx context.Context, room, gen, token string, l queue.LineState) error {
	if l.Line.IsZero() || len(l.Lanes) == 0 || len(l.Lanes) > 256 {
		return fmt.Errorf("redisqueue: start line %s with %d lanes: want an id and 1 to 256 lanes", l.Line, len(l.Lanes))
	}
	body, err := json.Marshal(l.Published)
	if err != nil {
		return fmt.Errorf("redisqueue: encode line: %w", err)
	}
	honours := make([]string, len(l.Honours))
	for i, id := range l.Honours {
		honours[i] = id.String()
	}
	r, replicated, err := s.run(ctx, room, scriptStartLine, true, gen, token, l.Line.String(), itoa(int64(len(l.Lanes))), string(body), strings.Join(honours, ","))
	if err != nil {
		return err
	}
	if len(r.items) > 0 {
		retired := r.list()
		for len(retired.items) > 0 && retired.err == nil {
			s.clean(ctx, room, retired.str())
		}
	}
	if !replicated {
		return queue.ErrReplication
	}
	return nil
}

// clean drops what only claims on a line needed: spent bitmaps, whose edges are known to no list, holders and unsealed counts. The line is
// no longer claimable, so this may be late or be interrupted; it costs memory alone.
func (s *Store) clean(ctx context.Context, room, id string) {
	prefix := strings.TrimSuffix(s.key(room), "c")
	for addr, node := range s.client.Nodes() {
		for _, kind := range []string{"sp:", "who:", "w:"} {
			if err := s.unlink(ctx, node, prefix+kind+id+":*"); err != nil {
				s.log.Warn("remains of an old line were not removed", "room", room, "line", id, "address", addr, "error", err)
			}
		}
	}
}

func (s *Store) unlink(ctx context.Context, node rueidis.Client, pattern string) error {
	for cursor := uint64(0); ; {
		page, err := node.Do(ctx, node.B().Scan().Cursor(cursor).Match(pattern).Count(1000).Build()).AsScanEntry()
		if err != nil {
			return err
		}
		for _, key := range page.Elements {
			if err := s.client.Do(ctx, s.client.B().Unlink().Key(key).Build()).Error(); err != nil {
				return err
			}
		}
		if cursor = page.Cursor; cursor == 0 {
			return nil
		}
	}
}

// UpdateLine implements queue.Store.
func (s *Store) UpdateLine(ctx context.Context, room, gen, token string, l queue.LineState) error {
	body, err := json.Marshal(l.Published)
	if err != nil {
		return fmt.Errorf("redisqueue: encode line: %w", err)
	}
	return s.step(ctx, room, scriptUpdateLine, true, gen, token, l.Line.String(), string(body))
}

// Line implements queue.Store.
func (s *Store) Line(ctx context.Context, room string, id line.ID) (queue.LineState, error) {
	r, _, err := s.run(ctx, room, scriptLine, false, id.String())
	if err != nil {
		return queue.LineState{}, err
	}
	body, honours := r.raw(), r.str()
	in := r.list()
	l := in.lineState()
	if err := json.Unmarshal(body, &l.Published); err != nil {
		r.fail(err)
	}
	for h := range strings.SplitSeq(honours, ",") {
		if h == "" {
			continue
		}
		old, err := line.ParseID(h)
		r.fail(err)
		l.Honours = append(l.Honours, old)
	}
	if err := r.done(in); err != nil {
		return queue.LineState{}, fmt.Errorf("redisqueue: line: %w", err)
	}
	return l, nil
}

// LedgerChunk implements queue.Store.
func (s *Store) LedgerChunk(ctx context.Context, room string, id line.ID, lane uint8, chunk uint32) ([]byte, error) {
	r, _, err := s.run(ctx, room, scriptLedger, false, id.String(), utoa(uint64(lane)), utoa(uint64(chunk)))
	if err != nil {
		return nil, err
	}
	body := r.raw()
	if r.err != nil {
		return nil, fmt.Errorf("redisqueue: ledger: %w", r.err)
	}
	return body, nil
}
