package edge

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stanchion-queue/stanchion/edge/guard"
)

// accessLog writes one line per request. Paths are logged without their query, which may hold what is nobody's business.
type accessLog struct {
	log   *slog.Logger
	w     io.Writer
	oneIn uint64
	n     atomic.Uint64

	mu  sync.Mutex
	buf []byte
}

func newAccessLog(o AccessLog) *accessLog {
	a := &accessLog{oneIn: uint64(max(1, o.OneIn))}
	if o.Combined {
		if o.Writer != nil {
			a.w = o.Writer
		}
	} else {
		a.log = o.Logger
	}
	return a
}

// done logs a request that was served.
func (a *accessLog) done(x *exchange, took time.Duration) {
	if a.log == nil && a.w == nil {
		return
	}
	if a.oneIn > 1 && !x.trouble() && a.n.Add(1)%a.oneIn != 0 {
		return
	}
	if a.w != nil {
		a.combined(x)
		return
	}
	attrs := make([]slog.Attr, 0, 14)
	attrs = append(attrs,
		slog.String("method", x.req.Method.String()),
		slog.String("host", string(x.req.Host)),
		slog.String("path", string(x.req.Path)),
		slog.Int("status", x.status),
		slog.Int64("bytes", x.bytes),
		slog.Float64("duration_ms", float64(took.Microseconds())/1000),
		slog.String("client", x.client.String()),
		slog.String("decision", x.word),
		slog.String("request_id", x.requestID),
	)
	if x.reason != "" {
		attrs = append(attrs, slog.String("reason", x.reason))
	}
	if x.room != nil {
		attrs = append(attrs, slog.String("room", x.room.name))
	}
	if x.route != nil {
		attrs = append(attrs, slog.String("upstream", x.route.Upstream))
	}
	if x.span != nil {
		attrs = append(attrs, slog.String("trace_id", x.span.SpanContext().TraceID().String()))
	}
	attrs = append(attrs, slog.String("user_agent", string(x.req.Get(guard.FieldUserAgent))))
	a.log.LogAttrs(context.Background(), slog.LevelInfo, "request", attrs...)
}

// trouble reports whether a request is logged whatever the sampling: guard's refusals and what went wrong. A room that lets
// people wait and an origin that is full are no trouble, and must not cost more for being many.
func (x *exchange) trouble() bool {
	switch x.word {
	case "refused":
		return true
	case "wait", "shed", "limited":
		return false
	}
	return x.status >= 500
}

// refused logs a request that guard did not let through.
func (a *accessLog) refused(peer netip.AddrPort, ref *guard.Refusal) {
	if a.log != nil {
		a.log.LogAttrs(context.Background(), slog.LevelInfo, "request refused", slog.Int("status", ref.Status),
			slog.String("decision", "refused"), slog.String("reason", ref.Reason), slog.String("client", peer.Addr().String()))
	}
}

// combined writes a line in Combined Log Format; what comes from the client is quoted.
func (a *accessLog) combined(x *exchange) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := x.client.AppendTo(a.buf[:0])
	b = append(b, " - - ["...)
	b = x.now.AppendFormat(b, "02/Jan/2006:15:04:05 -0700")
	b = append(b, `] "`...)
	b = append(b, x.req.Method.String()...)
	b = append(b, ' ')
	b = append(b, x.req.Path...) // guard lets neither quotes nor control characters into a path
	if x.req.HTTP10 {
		b = append(b, ` HTTP/1.0" `...)
	} else {
		b = append(b, ` HTTP/1.1" `...)
	}
	b = strconv.AppendInt(b, int64(x.status), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, x.bytes, 10)
	b = append(b, ' ')
	b = appendQuoted(b, x.req.Get(guard.FieldReferer))
	b = append(b, ' ')
	b = appendQuoted(b, x.req.Get(guard.FieldUserAgent))
	b = append(b, '\n')
	_, _ = a.w.Write(b)
	a.buf = b
}

func appendQuoted(b, v []byte) []byte {
	if len(v) == 0 {
		return append(b, `"-"`...)
	}
	return strconv.AppendQuoteToASCII(b, string(v))
}
