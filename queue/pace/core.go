package pace

// Bear finds by trial how many fans a second the core can bear: additive increase, multiplicative decrease. It belongs to one
// goroutine. The zero value has seen no trouble and sets no limit.
type Bear struct {
	rate     float64 // 0: no limit
	ceiling  float64 // what the last cut started from, when the operator sets no rate
	overMs   int64   // since when the core has been over its target; 0: it is well
	cutMs    int64
	raisedMs int64
}

// Constants of Bear.
const (
	bearOverMs  = 1000 // trouble must last this long before a cut
	bearCutMs   = 2000 // at most one cut in this time
	bearRaiseMs = 5000 // one raise in this time
	bearCut     = 0.5
	bearRaise   = 0.05        // of the maximum
	bearLeast   = 1.0 / 1024. // of the maximum: the core can only show that it is well while somebody comes
)

// Report is how the core is doing.
type Report struct {
	NowMs int64
	Over  bool    // p99 or error ratio over the target, as edges measure it or the core reports it
	Max   float64 // the operator's rate; 0: unlimited
	Using float64 // fans let in a second at the moment, for the first cut without an operator's rate
}

// Observe takes in a report, about one a second or more often, and returns the rate to keep to, 0 for no limit. Trouble that lasts
// 1 s halves the rate, at most once in 2 s; while the core is well the rate grows by 5% of the maximum every 5 s.
func (b *Bear) Observe(r Report) float64 {
	top := r.Max
	if top <= 0 {
		top = b.ceiling
	}
	if r.Max > 0 && b.rate > r.Max {
		b.rate = 0 // the operator asks for less than the core bears
	}
	if r.Over {
		if b.overMs == 0 {
			b.overMs = r.NowMs
		}
		if r.NowMs-b.overMs >= bearOverMs && (b.cutMs == 0 || r.NowMs-b.cutMs >= bearCutMs) {
			from := b.rate
			if from == 0 {
				if from = r.Max; from <= 0 {
					from = max(r.Using, 1)
					b.ceiling, top = from, from
				}
			}
			b.rate = max(from*bearCut, top*bearLeast)
			b.cutMs, b.raisedMs = r.NowMs, r.NowMs
		}
		b.raisedMs = max(b.raisedMs, r.NowMs)
		return b.rate
	}
	b.overMs = 0
	if b.rate > 0 && r.NowMs-b.raisedMs >= bearRaiseMs {
		b.rate += top * bearRaise
		b.raisedMs = r.NowMs
		switch {
		case r.Max > 0 && b.rate >= r.Max, r.Max <= 0 && b.rate >= 2*b.ceiling:
			b.rate, b.ceiling = 0, 0
		}
	}
	return b.rate
}
