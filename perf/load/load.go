// Package load simulates fans against a running Stanchion through its public HTTP API, as an open loop: each fan arrives at a planned
// time whatever the server does, and every wait is measured from the plan.
//
// A fan navigates to the protected page, takes a place, polls as told, comes to the door when called, looks at seats and buys, leaves or
// disappears. Fans dial from source addresses of their own (127.16.0.0/12 on loopback), so that no limit has to be switched off.
package load

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"sync"
	"time"
)

// Options describe the crowd. Shares are 0 to 1.
type Options struct {
	Target        string   // base URL of the edge, "http://127.0.0.1:8080"
	Others        []string // further edges of the same rooms: fans are spread over all, and move on when theirs does not answer
	Entry         string   // protected path, "/performances/gala"
	Room          string
	Performance   string // slug for the API; empty: fans only look at the entry page
	Prefix        string // of the room endpoints, "/.stanchion"
	Fans          int
	PerSecond     float64 // arrivals after the opening
	LobbyShare    float64 // share that comes before it, spread over LobbyFor
	LobbyFor      time.Duration
	AbsentShare   float64       // gone when called
	NoScriptShare float64       // follow Refresh headers
	BuyShare      float64       // of those let in
	SilentShare   float64       // of those who do not buy: go away without a word
	StayMean      time.Duration // time inside before buying or leaving, exponential around it
	HiddenShare   float64       // tabs in the background: they ask once a minute
	GhostShare    float64       // of those who leave: try their pass once more, at another edge if there is one
	BrowseEvery   time.Duration // without Performance: mean time between two pages that a fan opens inside; zero: one page
	LeaveMean     time.Duration // mean time after which an absent fan closes the page; zero: once called
	// Absent, if set, replaces AbsentShare for fans who know their rank: the share of those around it who are gone when called.
	Absent   func(rank uint64) float64
	Seed     uint64
	Source   netip.Prefix // source addresses; zero: the system's choice
	InFlight int          // bound on requests at once; default 256
	Timeout  time.Duration
	Log      *slog.Logger
	// Witness, if set, is told each thing that the server has acknowledged to a fan, as it happens, from the fans' goroutines.
	Witness func(Fact)
}

// Fact is something the server has acknowledged: it must never be lost.
type Fact struct {
	Fan   int
	Kind  FactKind
	At    time.Time
	Sent  time.Time // when the request was sent that brought this
	ID    string    // hold or order id
	Text  string    // ticket, pass, problem type, or an order's signed link
	Guest string    // guest token that owns the hold or order
	Rank  uint64    // with FactRank
	Seats int       // with FactPaid
	Until time.Time // with FactHold: end of the promise
}

// FactKind says what was acknowledged.
type FactKind string

// The kinds of facts.
const (
	FactPlace FactKind = "place" // a ticket was given
	FactRank  FactKind = "rank"  // the ticket's rank was told
	FactPass  FactKind = "pass"  // the fan was let in
	FactGrant FactKind = "grant" // a pass was given, or a newer one
	FactUse   FactKind = "use"   // a request with the pass in Text was let through
	FactDoor  FactKind = "door"  // the fan comes to the door for the first time
	FactLeave FactKind = "leave" // the fan is about to say that they are done
	FactGone  FactKind = "gone"  // a claim was refused for good: Text is the problem's type
	FactHold  FactKind = "hold"  // seats are held until Until
	FactOrder FactKind = "order" // an order exists
	FactPaid  FactKind = "paid"  // the order was shown as paid
	FactEnd   FactKind = "end"   // the fan gave the hold or order up
)

func (o *Options) validate() error {
	var errs []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	u, err := url.Parse(o.Target)
	want(err == nil && u.Scheme == "http" && u.Host != "", "target %q: want http://host:port", o.Target)
	want(o.Entry != "" && o.Entry[0] == '/', "entry %q: want a path", o.Entry)
	want(o.Room != "", "room: missing")
	want(o.Fans >= 0 && o.Fans <= 1_000_000, "fans %d: allowed 0 to 1000000", o.Fans)
	want(o.PerSecond > 0 && o.PerSecond <= 100_000, "arrivals per second %g: allowed up to 100000", o.PerSecond)
	for _, other := range o.Others {
		u, err := url.Parse(other)
		want(err == nil && u.Scheme == "http" && u.Host != "", "target %q: want http://host:port", other)
	}
	for name, v := range map[string]float64{"lobby": o.LobbyShare, "absent": o.AbsentShare, "no-script": o.NoScriptShare, "buy": o.BuyShare, "silent": o.SilentShare,
		"hidden": o.HiddenShare, "ghost": o.GhostShare} {
		want(v >= 0 && v <= 1 && !math.IsNaN(v), "%s share %g: allowed 0 to 1", name, v)
	}
	if o.Prefix == "" {
		o.Prefix = "/.stanchion"
	}
	if o.InFlight == 0 {
		o.InFlight = 256
	}
	if o.Timeout == 0 {
		o.Timeout = 15 * time.Second
	}
	if o.StayMean == 0 {
		o.StayMean = 20 * time.Second
	}
	return errors.Join(errs...)
}

// plan is everything that chance decides about one fan, drawn before anything happens, so that the server's speed changes no dice.
type plan struct {
	id       int
	at       time.Duration
	absent   bool
	noScript bool
	buy      bool
	silent   bool
	seats    int
	card     int // index of a test card
	stay     time.Duration
	jitter   float64 // 0 to 1
	absence  float64 // 0 to 1: absent where the share of absent fans is above it
	hidden   bool
	ghost    bool
	leave    float64 // patience of an absent fan, in means
	source   netip.Addr
}

// plans draws the crowd. The same seed gives the same crowd.
func plans(o Options) []plan {
	out := make([]plan, o.Fans)
	arrival := 0.0
	for i := range out {
		r := rand.New(rand.NewPCG(o.Seed, uint64(i)))
		p := plan{id: i, seats: 1 + r.IntN(4), card: r.IntN(100), jitter: r.Float64()}
		if i < int(float64(o.Fans)*o.LobbyShare) {
			p.at = time.Duration(r.Float64() * float64(o.LobbyFor))
		} else {
			arrival += r.ExpFloat64() / o.PerSecond
			p.at = o.LobbyFor + time.Duration(arrival*float64(time.Second))
		}
		p.absence = r.Float64()
		p.absent = p.absence < o.AbsentShare
		p.noScript = r.Float64() < o.NoScriptShare
		p.buy = r.Float64() < o.BuyShare
		p.silent = r.Float64() < o.SilentShare
		p.stay = time.Duration((0.3 + r.ExpFloat64()) * float64(o.StayMean) / 1.3)
		p.hidden = !p.noScript && r.Float64() < o.HiddenShare
		p.ghost = r.Float64() < o.GhostShare
		p.leave = r.ExpFloat64()
		if o.Source.IsValid() {
			p.source = sourceOf(o.Source, uint32(i))
		}
		out[i] = p
	}
	return out
}

// sourceOf spreads fans over an IPv4 prefix: neighbouring fans lie in different /24 networks.
func sourceOf(p netip.Prefix, i uint32) netip.Addr {
	host := 32 - p.Bits()
	if !p.Addr().Is4() || host < 9 {
		return p.Addr()
	}
	nets := uint32(1) << (host - 8)
	within := (i%nets)<<8 | (i/nets)%254 + 1
	b := p.Masked().Addr().As4()
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]) | within
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// Run lets the crowd come and returns when everybody is gone or ctx ends. The report is complete in both cases.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	c := &crowd{Options: o, report: newReport(), slots: make(chan struct{}, o.InFlight), start: time.Now()}
	for _, target := range append([]string{o.Target}, o.Others...) {
		u, err := url.Parse(target)
		if err != nil {
			return nil, fmt.Errorf("load: %w", err)
		}
		c.targets = append(c.targets, u)
	}
	var wg sync.WaitGroup
	crowd := plans(o)
	sortByArrival(crowd)
	for _, p := range crowd {
		if !c.until(ctx, p.at) {
			break
		}
		c.report.lag(time.Since(c.start) - p.at)
		wg.Add(1)
		go func() {
			defer wg.Done()
			f := newFan(c, p)
			defer f.close()
			c.report.outcome(f.live(ctx))
		}()
	}
	wg.Wait()
	return c.report, nil
}

// crowd is what the fans of one run share.
type crowd struct {
	Options
	report *Report
	slots  chan struct{}
	start  time.Time

	targets []*url.URL // all edges
}

func (c *crowd) until(ctx context.Context, at time.Duration) bool {
	return sleep(ctx, at-time.Since(c.start))
}

// sleep waits; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
