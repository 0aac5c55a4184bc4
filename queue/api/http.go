package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stanchion-queue/stanchion/queue/controller"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// Prefix is where Handler serves.
const Prefix = "/internal/v1"

// Headers of a change.
const (
	HeaderActor  = "Stanchion-Actor"  // who does it, for the audit
	HeaderReason = "Stanchion-Reason" // why, for the audit; percent-encoded when it is not ASCII
)

const maxBody = room.MaxDocumentBytes

// problem is an RFC 9457 answer.
type problem struct {
	Type         string         `json:"type"`
	Title        string         `json:"title"`
	Status       int            `json:"status"`
	Detail       string         `json:"detail"`
	RetryAfterMs int64          `json:"retry_after_ms,omitempty"`
	Problems     []room.Problem `json:"problems,omitempty"`
}

// typed errors, in both directions.
var kinds = []struct {
	err    error
	typ    string
	status int
	retry  time.Duration
}{
	{controller.ErrNotLeading, "not-leading", http.StatusServiceUnavailable, time.Second},
	{controller.ErrNotReady, "not-ready", http.StatusServiceUnavailable, time.Second},
	{controller.ErrNoRoom, "no-such-room", http.StatusNotFound, 0},
	{controller.ErrConflict, "version-conflict", http.StatusPreconditionFailed, 0},
	{controller.ErrReason, "reason-needed", http.StatusUnprocessableEntity, 0},
	{controller.ErrNoDraw, "no-draw-pending", http.StatusConflict, 0},
	{ErrAction, "no-such-action", http.StatusNotFound, 0},
	{room.ErrSettings, "invalid", http.StatusUnprocessableEntity, 0},
	{errBadRequest, "bad-request", http.StatusBadRequest, 0},
}

var errBadRequest = errors.New("queue api: the request cannot be read")

// Handler serves s under /internal/v1.
func Handler(s Service, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	handle := func(pattern string, f func(w http.ResponseWriter, r *http.Request) (any, error)) {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" "+Prefix+path, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			body, err := f(w, r)
			if err != nil {
				refuse(w, r, err, log)
				return
			}
			if body == nil {
				w.WriteHeader(http.StatusNoContent)
				return
			}
			reply(w, http.StatusOK, "application/json", body)
		})
	}
	handle("GET /rooms", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		names, err := s.Rooms(r.Context())
		return map[string][]string{"rooms": names}, err
	})
	handle("GET /rooms/{room}/settings", func(w http.ResponseWriter, r *http.Request) (any, error) {
		d, err := s.Settings(r.Context(), r.PathValue("room"))
		w.Header().Set("ETag", etag(d.Version))
		return d, err
	})
	handle("PUT /rooms/{room}/settings", func(w http.ResponseWriter, r *http.Request) (any, error) {
		version, err := ifMatch(r)
		if err != nil {
			return nil, err
		}
		doc, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errBadRequest, err)
		}
		c, err := s.Apply(r.Context(), r.PathValue("room"), doc, version, r.Header.Get(HeaderActor), reason(r))
		w.Header().Set("ETag", etag(c.Version))
		return c, err
	})
	handle("POST /rooms/{room}/settings/preview", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		doc, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errBadRequest, err)
		}
		changes, err := s.Preview(r.Context(), r.PathValue("room"), doc)
		if changes == nil {
			changes = []room.Change{}
		}
		return map[string][]room.Change{"changes": changes}, err
	})
	handle("POST /rooms/{room}/lines", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		version, err := ifMatch(r)
		if err != nil {
			return nil, err
		}
		honour := r.URL.Query().Get("honour")
		if honour != "true" && honour != "false" {
			return nil, fmt.Errorf("%w: honour must be true or false", errBadRequest)
		}
		doc, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errBadRequest, err)
		}
		return s.NewLine(r.Context(), r.PathValue("room"), doc, version, honour == "true", r.Header.Get(HeaderActor), reason(r))
	})
	handle("POST /rooms/{room}/actions/{action}", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		a := Action{}
		if err := decode(r, &a); err != nil {
			return nil, err
		}
		a.Kind = Kind(r.PathValue("action"))
		return s.Act(r.Context(), r.PathValue("room"), a, r.Header.Get(HeaderActor), reason(r))
	})
	handle("POST /rooms/{room}/draw", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		var d line.DrawResult
		if err := decode(r, &d); err != nil {
			return nil, err
		}
		return nil, s.Announce(r.Context(), r.PathValue("room"), d, r.Header.Get(HeaderActor), reason(r))
	})
	handle("PUT /rooms/{room}/report", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		var x controller.Report
		if err := decode(r, &x); err != nil {
			return nil, err
		}
		return nil, s.Report(r.Context(), r.PathValue("room"), x)
	})
	handle("GET /rooms/{room}/live", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return s.Live(r.Context(), r.PathValue("room"))
	})
	handle("POST /rooms/{room}/sessions/{session}/end", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		id, err := line.ParseSessionID(r.PathValue("session"))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errBadRequest, err)
		}
		return nil, s.EndSession(r.Context(), r.PathValue("room"), id)
	})
	handle("POST /rooms/{room}/sessions/{session}/extend", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		id, err := line.ParseSessionID(r.PathValue("session"))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errBadRequest, err)
		}
		var x extension
		if err := decode(r, &x); err != nil {
			return nil, err
		}
		return nil, s.ExtendSession(r.Context(), r.PathValue("room"), id, x.Until)
	})
	return mux
}

type extension struct {
	Until time.Time `json:"until"`
}

// decode reads a JSON body; an empty one leaves v as it is.
func decode(r *http.Request, v any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %w", errBadRequest, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("%w: something follows the body", errBadRequest)
	}
	return nil
}

func etag(version uint64) string { return `"` + strconv.FormatUint(version, 10) + `"` }

// ifMatch is the version that a change is based on; it is required.
func ifMatch(r *http.Request) (uint64, error) {
	v, err := strconv.ParseUint(strings.Trim(r.Header.Get("If-Match"), `"`), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: If-Match must name the version that was read", errBadRequest)
	}
	return v, nil
}

func reply(w http.ResponseWriter, status int, contentType string, body any) {
	doc, err := json.Marshal(body)
	if err != nil {
		http.Error(w, "answer cannot be encoded", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(doc) // the client may be gone
}

// refuse answers with the problem that an error stands for.
func refuse(w http.ResponseWriter, r *http.Request, err error, log *slog.Logger) {
	p := problem{Type: "/problems/unavailable", Title: http.StatusText(http.StatusServiceUnavailable), Status: http.StatusServiceUnavailable,
		Detail: "the room's store does not answer", RetryAfterMs: 1000}
	known := false
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			p = problem{Type: "/problems/" + k.typ, Title: http.StatusText(k.status), Status: k.status, Detail: err.Error(), RetryAfterMs: k.retry.Milliseconds()}
			known = true
			break
		}
	}
	var refusal *line.Refusal
	if !known && errors.As(err, &refusal) {
		p.Detail = refusal.Detail
		known = true
	}
	errors.As(err, (*room.Problems)(&p.Problems))
	if !known {
		log.Warn("internal request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	if p.RetryAfterMs > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt((p.RetryAfterMs+999)/1000, 10))
	}
	reply(w, p.Status, "application/problem+json", p)
}

// Client is the service of queue processes over HTTP. It asks the process that answered last, and the others when that one is away or
// does not lead the room.
type Client struct {
	http  *http.Client
	bases []string
	last  atomic.Int64
}

var _ Service = (*Client)(nil)

// NewClient makes a client of the queue processes at the given base URLs, such as "https://queue-1:9093". The HTTP client brings its own
// timeout and certificates; nil means one with 3 s.
func NewClient(c *http.Client, bases ...string) (*Client, error) {
	if len(bases) == 0 {
		return nil, errors.New("queue api: no address of a queue process")
	}
	if c == nil {
		c = &http.Client{Timeout: 3 * time.Second}
	}
	out := &Client{http: c}
	for _, b := range bases {
		if !strings.HasPrefix(b, "http://") && !strings.HasPrefix(b, "https://") {
			return nil, fmt.Errorf("queue api: address %q is not an http or https URL", b)
		}
		out.bases = append(out.bases, strings.TrimRight(b, "/"))
	}
	return out, nil
}

// request describes one call.
type request struct {
	method, path string
	body         []byte
	actor        string
	reason       string
	ifMatch      string
}

// do sends a request to each process in turn until one has an answer that another could not better.
func (c *Client) do(ctx context.Context, q request, into any) error {
	var last error
	start := int(c.last.Load())
	for i := range c.bases {
		n := (start + i) % len(c.bases)
		again, err := c.try(ctx, c.bases[n], q, into)
		if err == nil {
			c.last.Store(int64(n))
			return nil
		}
		last = err
		if !again || ctx.Err() != nil {
			break
		}
	}
	return last
}

// try sends a request to one process. again says that another process may do better; that is safe, because every operation can be
// repeated, or names the version it changes.
func (c *Client) try(ctx context.Context, base string, q request, into any) (again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, q.method, base+Prefix+q.path, bytes.NewReader(q.body))
	if err != nil {
		return false, fmt.Errorf("queue api: %w", err)
	}
	if q.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	set := func(key, value string) {
		if value != "" {
			req.Header.Set(key, value)
		}
	}
	set("If-Match", q.ifMatch)
	set(HeaderActor, q.actor)
	set(HeaderReason, escape(q.reason))
	resp, err := c.http.Do(req)
	if err != nil {
		return true, fmt.Errorf("queue api: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return true, fmt.Errorf("queue api: read answer: %w", err)
	}
	if resp.StatusCode < 300 {
		if into == nil || len(body) == 0 {
			return false, nil
		}
		if err := json.Unmarshal(body, into); err != nil {
			return false, fmt.Errorf("queue api: read answer: %w", err)
		}
		return false, nil
	}
	var p problem
	if err := json.Unmarshal(body, &p); err != nil {
		return resp.StatusCode >= 500, fmt.Errorf("queue api: %s %s: status %d", q.method, q.path, resp.StatusCode)
	}
	if len(p.Problems) > 0 {
		return false, room.Problems(p.Problems)
	}
	for _, k := range kinds {
		if p.Type == "/problems/"+k.typ {
			return errors.Is(k.err, controller.ErrNotLeading), fmt.Errorf("%w (%s)", k.err, p.Detail)
		}
	}
	return resp.StatusCode >= 500, fmt.Errorf("queue api: %s %s: %s", q.method, q.path, p.Detail)
}

func encode(v any) []byte {
	doc, err := json.Marshal(v)
	if err != nil {
		return nil // our own plain structs; the server answers an empty body with what is missing
	}
	return doc
}

// Rooms implements Service.
func (c *Client) Rooms(ctx context.Context) ([]string, error) {
	var v struct {
		Rooms []string `json:"rooms"`
	}
	err := c.do(ctx, request{method: http.MethodGet, path: "/rooms"}, &v)
	return v.Rooms, err
}

// Settings implements Service.
func (c *Client) Settings(ctx context.Context, name string) (d controller.Document, err error) {
	err = c.do(ctx, request{method: http.MethodGet, path: "/rooms/" + name + "/settings"}, &d)
	return d, err
}

// Preview implements Service.
func (c *Client) Preview(ctx context.Context, name string, doc []byte) ([]room.Change, error) {
	var v struct {
		Changes []room.Change `json:"changes"`
	}
	err := c.do(ctx, request{method: http.MethodPost, path: "/rooms/" + name + "/settings/preview", body: doc}, &v)
	return v.Changes, err
}

// Apply implements Service.
func (c *Client) Apply(ctx context.Context, name string, doc []byte, ifVersion uint64, who, reason string) (ch controller.Change, err error) {
	err = c.do(ctx, request{method: http.MethodPut, path: "/rooms/" + name + "/settings", body: doc, ifMatch: etag(ifVersion), actor: who, reason: reason}, &ch)
	return ch, err
}

// NewLine implements Service.
func (c *Client) NewLine(ctx context.Context, name string, doc []byte, ifVersion uint64, honour bool, who, reason string) (ch controller.Change, err error) {
	path := "/rooms/" + name + "/lines?honour=" + strconv.FormatBool(honour)
	err = c.do(ctx, request{method: http.MethodPost, path: path, body: doc, ifMatch: etag(ifVersion), actor: who, reason: reason}, &ch)
	return ch, err
}

// Act implements Service.
func (c *Client) Act(ctx context.Context, name string, a Action, who, reason string) (ch controller.Change, err error) {
	err = c.do(ctx, request{method: http.MethodPost, path: "/rooms/" + name + "/actions/" + string(a.Kind), body: encode(a), actor: who, reason: reason}, &ch)
	return ch, err
}

// Announce implements Service.
func (c *Client) Announce(ctx context.Context, name string, r line.DrawResult, who, reason string) error {
	return c.do(ctx, request{method: http.MethodPost, path: "/rooms/" + name + "/draw", body: encode(r), actor: who, reason: reason}, nil)
}

// Report implements Service.
func (c *Client) Report(ctx context.Context, name string, r controller.Report) error {
	return c.do(ctx, request{method: http.MethodPut, path: "/rooms/" + name + "/report", body: encode(r)}, nil)
}

// Live implements Service.
func (c *Client) Live(ctx context.Context, name string) (v controller.Live, err error) {
	err = c.do(ctx, request{method: http.MethodGet, path: "/rooms/" + name + "/live"}, &v)
	return v, err
}

// EndSession implements Service.
func (c *Client) EndSession(ctx context.Context, name string, id line.SessionID) error {
	return c.do(ctx, request{method: http.MethodPost, path: "/rooms/" + name + "/sessions/" + id.String() + "/end"}, nil)
}

// ExtendSession implements Service.
func (c *Client) ExtendSession(ctx context.Context, name string, id line.SessionID, until time.Time) error {
	return c.do(ctx, request{method: http.MethodPost, path: "/rooms/" + name + "/sessions/" + id.String() + "/extend", body: encode(extension{until})}, nil)
}
