package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/inventory"
)

// Handler serves a desk. The server around it needs a ReadTimeout for slow bodies and no WriteTimeout below a minute:
// every request has its own deadline here.
func Handler(desk inventory.Desk, log *slog.Logger) http.Handler {
	h := &handler{desk: desk, log: log}
	mux := http.NewServeMux()
	p := Prefix + "/{performance}"
	b := p + "/blocks/{block}"
	route := func(pattern string, timeout time.Duration, body int64, f func(ctx context.Context, c *call) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, timeout, body, f) })
	}
	route("GET "+Prefix, changeTimeout, 0, h.list)
	route("POST "+p+"/import", saleTimeout, maxImport, h.importPlan)
	route("GET "+p+"/await", awaitTimeout, 0, h.await)
	route("GET "+p+"/progress", changeTimeout, 0, h.progress)
	route("GET "+p+"/chart", changeTimeout, 0, h.chart)
	route("GET "+p+"/sale", changeTimeout, 0, h.saleState)
	route("GET "+p+"/availability", changeTimeout, 0, h.availability)
	route("GET "+p+"/counts", changeTimeout, 0, h.counts)
	for action, f := range map[string]func(context.Context, uuid.UUID) error{
		"open": desk.OpenSale, "pause": desk.PauseSale, "drain": desk.DrainSale, "close": desk.CloseSale,
	} {
		route("POST "+p+"/sale/"+action, saleTimeout, maxBody, func(ctx context.Context, c *call) (any, error) {
			return reply{}, f(ctx, c.performance)
		})
	}
	route("POST "+p+"/best/hold", changeTimeout, maxBody, h.holdBest)
	route("POST "+p+"/best/suggest", changeTimeout, maxBody, h.suggestBest)
	for action, f := range h.changes() {
		route("POST "+b+"/"+action, changeTimeout, maxBody, func(ctx context.Context, c *call) (any, error) {
			var q seatsRequest
			if err := c.decode(&q); err != nil {
				return nil, err
			}
			return f(ctx, c, q)
		})
	}
	route("GET "+b+"/holds/{id}", changeTimeout, 0, h.lookHold)
	route("GET "+b+"/orders/{id}", changeTimeout, 0, h.lookOrder)
	route("GET "+b+"/sold", changeTimeout, 0, h.sold)
	return mux
}

type handler struct {
	desk inventory.Desk
	log  *slog.Logger
}

// call is one request with its path read.
type call struct {
	r           *http.Request
	performance uuid.UUID
	block       int16
	id          uuid.UUID
}

// errBody is a request that is not what the API asks for.
type errBody struct {
	status int
	detail string
}

func (e errBody) Error() string { return e.detail }

func (h *handler) serve(w http.ResponseWriter, r *http.Request, timeout time.Duration, body int64, f func(context.Context, *call) (any, error)) {
	r.Body = http.MaxBytesReader(w, r.Body, body)
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	c, err := read(r)
	var answer any
	if err == nil {
		answer, err = f(ctx, c)
	}
	if err != nil {
		h.refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", contentTypeJSON)
	w.Header().Set("Cache-Control", "no-store")
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		h.log.Warn("answer an inventory request", "path", r.URL.Path, "error", err)
	}
}

// read takes what the path says.
func read(r *http.Request) (*call, error) {
	c := &call{r: r}
	for _, v := range []struct {
		name string
		into *uuid.UUID
	}{{"performance", &c.performance}, {"id", &c.id}} {
		s := r.PathValue(v.name)
		if s == "" {
			continue
		}
		id, err := uuid.Parse(s)
		if err != nil {
			return nil, errBody{http.StatusBadRequest, v.name + " in the path is not a UUID"}
		}
		*v.into = id
	}
	if s := r.PathValue("block"); s != "" {
		n, err := strconv.ParseInt(s, 10, 16)
		if err != nil {
			return nil, errBody{http.StatusBadRequest, "block in the path is not a number between 0 and 32767"}
		}
		c.block = int16(n)
	}
	return c, nil
}

// decode reads the body, one JSON value with known keys.
func (c *call) decode(into any) error {
	if t, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type")); err != nil || t != contentTypeJSON {
		return errBody{http.StatusUnsupportedMediaType, "the body must be " + contentTypeJSON}
	}
	dec := json.NewDecoder(c.r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err == nil {
			return errBody{http.StatusBadRequest, "more than one JSON value in the body"}
		}
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return errBody{http.StatusRequestEntityTooLarge, "the body is larger than " + strconv.FormatInt(large.Limit, 10) + " bytes"}
	}
	return errBody{http.StatusBadRequest, "the body is not what this action reads: " + err.Error()}
}

// statuses by the code of the inventory's error. An unknown outcome is an answer like any other: 202.
var statuses = map[string]int{
	inventory.ErrSeatsTaken.Code():        http.StatusConflict,
	inventory.ErrNoSeatsLeft.Code():       http.StatusConflict,
	inventory.ErrUnknownOutcome.Code():    http.StatusAccepted,
	inventory.ErrNoSuchSeat.Code():        http.StatusUnprocessableEntity,
	inventory.ErrNoSuchPerformance.Code(): http.StatusNotFound,
	inventory.ErrSaleNotOpen.Code():       http.StatusConflict,
	inventory.ErrBlockFrozen.Code():       http.StatusServiceUnavailable,
	inventory.ErrHoldExpired.Code():       http.StatusGone,
	inventory.ErrLeaseRefused.Code():      http.StatusUnprocessableEntity,
	inventory.ErrUnavailable.Code():       http.StatusServiceUnavailable,
	inventory.ErrConflict.Code():          http.StatusConflict,
	inventory.ErrBadRequest.Code():        http.StatusBadRequest,
}

func (h *handler) refuse(w http.ResponseWriter, err error) {
	p := problem{Status: http.StatusInternalServerError, Type: problemURI + inventory.ErrUnknownOutcome.Code(), Detail: "internal error"}
	var known *inventory.Error
	var body errBody
	switch {
	case errors.As(err, &known):
		p = problem{
			Type: problemURI + known.Code(), Status: statuses[known.Code()], Detail: known.Detail(),
			Performance: known.Performance(), Block: known.Block(), Seats: known.Seats(),
		}
		if errors.Unwrap(known) != nil {
			h.log.Warn("an inventory request failed", "code", known.Code(), "error", err)
		}
	case errors.As(err, &body):
		p = problem{Type: problemURI + inventory.ErrBadRequest.Code(), Status: body.status, Detail: body.detail}
	default:
		h.log.Error("an inventory request failed", "error", err)
	}
	p.Title = http.StatusText(p.Status)
	w.Header().Set("Content-Type", problemType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	if err := json.NewEncoder(w).Encode(p); err != nil {
		h.log.Warn("answer an inventory request", "error", err)
	}
}

func (h *handler) list(ctx context.Context, _ *call) (any, error) {
	ids, err := h.desk.Performances(ctx)
	return reply{Performances: ids}, err
}

func (h *handler) importPlan(ctx context.Context, c *call) (any, error) {
	var q importRequest
	if err := c.decode(&q); err != nil {
		return nil, err
	}
	return reply{}, h.desk.ImportPerformance(ctx, c.performance, q.Plan, q.BlockSeats, q.Channels)
}

// await answers within its timeout in any case; complete says whether the wait is over.
func (h *handler) await(ctx context.Context, c *call) (any, error) {
	err := h.desk.AwaitImport(ctx, c.performance)
	if err != nil && ctx.Err() != nil {
		return reply{}, nil
	}
	return reply{Complete: err == nil}, err
}

func (h *handler) progress(ctx context.Context, c *call) (any, error) {
	done, total, err := h.desk.ImportProgress(ctx, c.performance)
	return reply{Done: done, Total: total}, err
}

func (h *handler) chart(ctx context.Context, c *call) (any, error) {
	document, hash, seats, err := h.desk.Chart(ctx, c.performance)
	return reply{Document: document, Hash: hash, BlockSeats: seats}, err
}

func (h *handler) saleState(ctx context.Context, c *call) (any, error) {
	state, err := h.desk.SaleState(ctx, c.performance)
	return reply{State: state}, err
}

func (h *handler) availability(ctx context.Context, c *call) (any, error) {
	var since int64
	if s := c.r.URL.Query().Get("since"); s != "" {
		var err error
		if since, err = strconv.ParseInt(s, 10, 64); err != nil {
			return nil, errBody{http.StatusBadRequest, "since is not a version"}
		}
	}
	return h.desk.Availability(ctx, c.performance, since)
}

func (h *handler) counts(ctx context.Context, c *call) (any, error) {
	sellable, held, sold, err := h.desk.Counts(ctx, c.performance)
	return reply{Sellable: sellable, Held: held, Sold: sold}, err
}

func (h *handler) holdBest(ctx context.Context, c *call) (any, error) {
	var q bestRequest
	if err := c.decode(&q); err != nil {
		return nil, err
	}
	block, seats, expires, err := h.desk.HoldBest(ctx, c.performance, q.Qty, q.Offer, q.Accessible, q.Hold, ms(q.LeaseMS), q.Channels)
	return reply{Block: block, Seats: seats, Expires: expires}, err
}

func (h *handler) suggestBest(ctx context.Context, c *call) (any, error) {
	var q bestRequest
	if err := c.decode(&q); err != nil {
		return nil, err
	}
	block, seats, err := h.desk.SuggestBest(ctx, c.performance, q.Qty, q.Offer, q.Accessible, q.Channels)
	return reply{Block: block, Seats: seats}, err
}

// ms turns milliseconds into a duration; what overflows becomes a lease that is refused as too long.
func ms(n int64) time.Duration {
	const most = int64(24 * time.Hour / time.Millisecond)
	return time.Duration(min(n, most)) * time.Millisecond
}

func (h *handler) changes() map[string]func(context.Context, *call, seatsRequest) (any, error) {
	d := h.desk
	none := func(err error) (any, error) { return reply{}, err }
	until := func(t time.Time, err error) (any, error) { return reply{Expires: t}, err }
	return map[string]func(context.Context, *call, seatsRequest) (any, error){
		"hold": func(ctx context.Context, c *call, q seatsRequest) (any, error) {
			return until(d.Hold(ctx, c.performance, c.block, q.Seats, q.Hold, ms(q.LeaseMS), q.Channels))
		},
		"extend": func(ctx context.Context, c *call, q seatsRequest) (any, error) {
			return until(d.Extend(ctx, c.performance, c.block, q.Seats, q.Hold, ms(q.LeaseMS)))
		},
		"pin": func(ctx context.Context, c *call, q seatsRequest) (any, error) {
			return until(d.Pin(ctx, c.performance, c.block, q.Seats, q.Hold, ms(q.LeaseMS)))
		},
		"release": func(ctx context.Context, c *call, q seatsRequest) (any, error) {
			return none(d.Release(ctx, c.performance, c.block, q.Seats, q.Hold))
		},
		"sell": func(ctx context.Context, c *call, q seatsRequest) (any, error) {
			return none(d.Sell(ctx, c.performance, c.block, q.Seats, q.Hold, q.Order))
		},
		"rescue": func(ctx context.Context, c *call, q seatsRequest) (any, error) {
			return none(d.Rescue(ctx, c.performance, c.block, q.Seats, q.Order))
		},
		"unsell": func(ctx context.Context, c *call, q seatsRequest) (any, error) {
			return none(d.Unsell(ctx, c.performance, c.block, q.Seats, q.Order))
		},
		"kill": func(ctx context.Context, c *call, q seatsRequest) (any, error) {
			return none(d.Kill(ctx, c.performance, c.block, q.Seats, q.Reason))
		},
		"open": func(ctx context.Context, c *call, q seatsRequest) (any, error) {
			return none(d.OpenSeats(ctx, c.performance, c.block, q.Seats, q.Reason))
		},
		"freeze": func(ctx context.Context, c *call, _ seatsRequest) (any, error) {
			return none(d.FreezeBlock(ctx, c.performance, c.block))
		},
		"unfreeze": func(ctx context.Context, c *call, _ seatsRequest) (any, error) {
			return none(d.UnfreezeBlock(ctx, c.performance, c.block))
		},
	}
}

func (h *handler) lookHold(ctx context.Context, c *call) (any, error) {
	seats, left, err := h.desk.LookHold(ctx, c.performance, c.block, c.id)
	return reply{Seats: seats, LeftMS: left.Milliseconds()}, err
}

func (h *handler) lookOrder(ctx context.Context, c *call) (any, error) {
	seats, err := h.desk.LookOrder(ctx, c.performance, c.block, c.id)
	return reply{Seats: seats}, err
}

func (h *handler) sold(ctx context.Context, c *call) (any, error) {
	seats, orders, err := h.desk.Sold(ctx, c.performance, c.block)
	return reply{Seats: seats, Orders: orders}, err
}
