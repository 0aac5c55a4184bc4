package main

import (
	"cmp"
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// stream is one kind of request at a rate, as an open loop: requests leave at their planned times whatever becomes of the
// earlier ones, spaced exponentially.
type stream struct {
	path      string
	perSecond float64
}

// answer is what became of one request. Times count from its planned moment.
type answer struct {
	at     time.Duration // planned, from the start
	took   time.Duration
	lag    time.Duration // how late the generator sent it
	status int           // 0: none before the deadline
}

// patience is how long a client waits; what comes later is worth nothing to it.
const patience = time.Second

// crowd sends streams to one server over connections that it keeps.
type crowd struct {
	addr string
	hc   *fasthttp.HostClient
}

func newCrowd(addr string) *crowd {
	return &crowd{addr, &fasthttp.HostClient{
		Addr: addr, MaxConns: 15000, MaxIdleConnDuration: 20 * time.Second, MaxIdemponentCallAttempts: 1, NoDefaultUserAgentHeader: true,
		RetryIfErr: func(*fasthttp.Request, int, error) (bool, bool) { return false, false },
		Dial:       func(a string) (net.Conn, error) { return fasthttp.DialTimeout(a, patience) },
	}}
}

func (c *crowd) close() { c.hc.CloseIdleConnections() }

// drive sends all streams for d and returns the answers by stream, in planned order.
func (c *crowd) drive(ctx context.Context, d time.Duration, streams ...stream) [][]answer {
	out := make([][]answer, len(streams))
	start := time.Now()
	var all sync.WaitGroup
	for i, s := range streams {
		all.Go(func() {
			var mu sync.Mutex
			var wg sync.WaitGroup
			pace := rand.New(rand.NewPCG(uint64(i), 1)) //nolint:gosec // arrival times, the same in each run
			timer := time.NewTimer(0)
			defer timer.Stop()
			<-timer.C
			for at := time.Duration(0); ; {
				at += time.Duration(pace.ExpFloat64() / s.perSecond * float64(time.Second))
				if at > d {
					break
				}
				if wait := at - time.Since(start); wait > 0 {
					timer.Reset(wait)
					select {
					case <-timer.C:
					case <-ctx.Done():
						wg.Wait()
						return
					}
				}
				planned := at
				wg.Go(func() {
					a := c.ask(start, planned, s.path)
					mu.Lock()
					out[i] = append(out[i], a)
					mu.Unlock()
				})
			}
			wg.Wait()
			slices.SortFunc(out[i], func(a, b answer) int { return cmp.Compare(a.at, b.at) })
		})
	}
	all.Wait()
	return out
}

func (c *crowd) ask(start time.Time, planned time.Duration, path string) answer {
	a := answer{at: planned, lag: time.Since(start) - planned}
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI("http://" + c.addr + path)
	err := c.hc.DoDeadline(req, resp, start.Add(planned+patience))
	a.took = time.Since(start) - planned
	if err == nil && a.took <= patience {
		a.status = resp.StatusCode()
	}
	return a
}

// summary of answers whose plan lies between from and to.
type summary struct {
	Offered float64 `json:"offered_per_second"`
	Good    float64 `json:"good_per_second"` // answered 200 within patience
	Share   float64 `json:"good_share"`
	P50ms   float64 `json:"p50_ms"` // of the good
	P99ms   float64 `json:"p99_ms"`
	Refused float64 `json:"refused_share"` // 429 and 503
	Lost    float64 `json:"lost_share"`    // anything else: no answer in time, or a broken one
	LagMs   float64 `json:"generator_lag_p99_ms"`
}

func summarise(answers []answer, from, to time.Duration) summary {
	var took, lag []time.Duration
	var n, refused float64
	for _, a := range answers {
		if a.at < from || a.at >= to {
			continue
		}
		n++
		lag = append(lag, a.lag)
		switch a.status {
		case 200:
			took = append(took, a.took)
		case 429, 503:
			refused++
		}
	}
	span := (to - from).Seconds()
	good := float64(len(took))
	return summary{
		Offered: n / span, Good: good / span, Share: good / max(n, 1), Refused: refused / max(n, 1), Lost: (n - good - refused) / max(n, 1),
		P50ms: quantile(took, 0.5), P99ms: quantile(took, 0.99), LagMs: quantile(lag, 0.99),
	}
}

func quantile(v []time.Duration, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return float64(v[min(len(v)-1, int(q*float64(len(v))))].Microseconds()) / 1000
}
