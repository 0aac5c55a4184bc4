package counter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/catalog"
	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/problem"
	"github.com/stanchion-queue/stanchion/inventory/chart"
)

// What the counter does with the real order service and inventory is tested in tools/journeys/officetest. Here both are played by
// the test, which decides who comes first.

// desk plays the order service: seats in taken are somebody else's.
type desk struct {
	taken    map[order.Seat]bool
	fail     error // of the hold after which nothing is known
	failAt   int   // its block
	holds    map[uuid.UUID]order.HoldRequest
	asked    []order.HoldRequest
	released []uuid.UUID
	stuck    error // of releases
}

func (d *desk) CreateHold(_ context.Context, r order.HoldRequest) (order.Hold, error) {
	d.asked = append(d.asked, r)
	if d.fail != nil && r.Seats[0].Block == d.failAt {
		return order.Hold{}, d.fail
	}
	h := order.Hold{ID: r.ID, Performance: r.Performance, Block: r.Seats[0].Block, State: order.HoldHeld}
	for _, s := range r.Seats {
		if d.taken[s] {
			return order.Hold{}, &order.SeatsTaken{Seats: []order.Seat{s}}
		}
		h.Seats = append(h.Seats, s.Seat)
	}
	if d.holds == nil {
		d.holds = map[uuid.UUID]order.HoldRequest{}
	}
	d.holds[r.ID] = r
	return h, nil
}

func (d *desk) ReleaseHold(ctx context.Context, _ order.Principal, id uuid.UUID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.released = append(d.released, id)
	if d.stuck == nil {
		delete(d.holds, id)
	}
	return d.stuck
}

// house plays the inventory: it suggests what is next on its list.
type house struct {
	suggestions []order.Seat
	last        error
}

func (h *house) SuggestBest(_ context.Context, _ uuid.UUID, qty int, _ string, _ bool, _ []int16) (int16, []int16, error) {
	if len(h.suggestions) == 0 {
		return 0, nil, h.last
	}
	s := h.suggestions[0]
	h.suggestions = h.suggestions[1:]
	return int16(s.Block), []int16{int16(s.Seat)}, nil
}

// rows is a hall of n rows of ten, each a block.
type rows int

func (n rows) Chart(context.Context, uuid.UUID) ([]byte, string, int, error) {
	c := chart.Chart{Name: "House", Categories: []chart.Category{{Name: "A"}}, Sections: []chart.Section{{ID: "s", Name: "Stalls"}}}
	for i := range int(n) {
		r := chart.Row{Label: fmt.Sprint(i)}
		for k := range 10 {
			r.Seats = append(r.Seats, chart.Seat{ID: fmt.Sprintf("%d-%d", i, k), Label: fmt.Sprint(k)})
		}
		c.Sections[0].Rows = append(c.Sections[0].Rows, r)
	}
	doc, err := c.Encode()
	return doc, "hash", 10, err
}

func newCounter(d *desk, h *house) *Counter {
	return &Counter{Orders: d, Catalog: catalog.New(nil, rows(6), 0), Seats: h}
}

func base() order.HoldRequest {
	return order.HoldRequest{ID: uuid.New(), Principal: "guest:1", Performance: uuid.New()}
}

func TestSeatsOfSeveralBlocksAreSeveralHolds(t *testing.T) {
	d := &desk{}
	r := base()
	holds, err := newCounter(d, nil).Hold(t.Context(), r, Wish{IDs: []string{"2-5", "0-3", "2-4", "1-1"}})
	if err != nil {
		t.Fatal(err)
	}
	var blocks []int
	ids := map[uuid.UUID]bool{}
	for _, h := range holds {
		blocks = append(blocks, h.Block)
		ids[h.ID] = true
	}
	if !slices.Equal(blocks, []int{0, 1, 2}) || len(ids) != 3 || holds[0].ID != r.ID || len(holds[2].Seats) != 2 {
		t.Errorf("holds %+v", holds)
	}
	// The same request again asks for the same holds, whatever came of the first.
	if again, err := newCounter(d, nil).Hold(t.Context(), r, Wish{IDs: []string{"1-1", "2-4", "2-5", "0-3"}}); err != nil || again[1].ID != holds[1].ID || again[2].ID != holds[2].ID {
		t.Errorf("the repetition made other holds: %+v, %v", again, err)
	}
}

func TestAllOrNothing(t *testing.T) {
	for _, test := range []struct {
		name string
		desk desk
		want error
	}{
		{"the last block is taken", desk{taken: map[order.Seat]bool{{Block: 2, Seat: 4}: true}}, &order.SeatsTaken{}},
		{"the pass allows fewer", desk{fail: &order.PassLimit{}, failAt: 1}, &order.PassLimit{}},
		{"the outcome is not known", desk{fail: order.ErrNotNow, failAt: 2}, order.ErrNotNow},
		{"giving back fails too", desk{fail: order.ErrNotNow, failAt: 2, stuck: errors.New("the store is gone")}, order.ErrNotNow},
		{"what was taken has run out meanwhile", desk{fail: order.ErrSaleNotOpen, failAt: 2, stuck: order.ErrHoldExpired}, order.ErrSaleNotOpen},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := &test.desk
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			holds, err := newCounter(d, nil).Hold(ctx, base(), Wish{IDs: []string{"0-3", "1-4", "2-4"}})
			if holds != nil || problem.From(err).Type != problem.From(test.want).Type {
				t.Fatalf("Hold = %+v, %v", holds, err)
			}
			if d.stuck == nil && len(d.holds) > 0 || len(d.released) != len(d.asked)-1 {
				t.Errorf("held %d, released %d after %d requests", len(d.holds), len(d.released), len(d.asked))
			}
		})
	}
}

// A fan who goes away in the middle must not keep half of what they wanted.
func TestGivenBackThoughTheFanIsGone(t *testing.T) {
	d := &desk{taken: map[order.Seat]bool{{Block: 1, Seat: 4}: true}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newCounter(d, nil).Hold(ctx, base(), Wish{IDs: []string{"0-3", "1-4"}}); err == nil || len(d.holds) > 0 {
		t.Errorf("%v; still held: %v", err, d.holds)
	}
}

func TestRefusedBeforeAnythingIsTaken(t *testing.T) {
	twentyOne := make([]string, 21)
	for i := range twentyOne {
		twentyOne[i] = fmt.Sprintf("%d-%d", i/10, i%10)
	}
	for _, test := range []struct {
		name string
		wish Wish
		want *problem.Kind
	}{
		{"an unknown seat", Wish{IDs: []string{"0-1", "9-9", "x"}}, problem.NoSuchSeat},
		{"five blocks", Wish{IDs: []string{"0-1", "1-1", "2-1", "3-1", "4-1"}}, problem.TooManyHolds},
		{"two blocks where one is wanted", Wish{IDs: []string{"0-1", "1-1"}, OneBlock: true}, problem.ManyBlocks},
		{"more than twenty", Wish{IDs: twentyOne}, problem.TooManySeats},
		{"nothing", Wish{}, problem.NoSeats},
		{"fewer than one", Wish{Qty: -1}, problem.NoSeats},
		{"more than twenty together", Wish{Qty: 21}, problem.NoSeats},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := &desk{}
			_, err := newCounter(d, &house{}).Hold(t.Context(), base(), test.wish)
			p := problem.From(err)
			if !p.Of(test.want) || len(d.asked) > 0 {
				t.Errorf("%v after %d requests", err, len(d.asked))
			}
			if test.want == problem.NoSuchSeat && (len(p.Seats) != 2 || p.Seats[0].ID != "9-9" || p.Seats[1].ID != "x") {
				t.Errorf("which do not exist? %+v", p.Seats)
			}
		})
	}
}

func TestBestTriesAgain(t *testing.T) {
	taken := map[order.Seat]bool{}
	for n := range 4 {
		taken[order.Seat{Block: 0, Seat: n}] = true
	}
	at := func(ns ...int) (out []order.Seat) {
		for _, n := range ns {
			out = append(out, order.Seat{Block: 0, Seat: n})
		}
		return out
	}
	t.Run("until a suggestion is free", func(t *testing.T) {
		d := &desk{taken: taken}
		r := base()
		holds, err := newCounter(d, &house{suggestions: at(0, 1, 2, 7)}).Hold(t.Context(), r, Wish{Qty: 1})
		if err != nil || len(holds) != 1 || holds[0].Seats[0] != 7 || len(d.asked) != 4 {
			t.Fatalf("%+v, %v after %d", holds, err, len(d.asked))
		}
		ids := map[uuid.UUID]bool{}
		for _, a := range d.asked {
			ids[a.ID] = true
		}
		if len(ids) != 4 || d.asked[0].ID != r.ID {
			t.Errorf("each try is another hold, the first one's id the request's: %v", ids)
		}
	})
	t.Run("but not for ever", func(t *testing.T) {
		d := &desk{taken: taken}
		_, err := newCounter(d, &house{suggestions: at(0, 1, 2, 3, 7)}).Hold(t.Context(), base(), Wish{Qty: 1})
		if !problem.From(err).Of(problem.SeatsTaken) || len(d.asked) != bestTries {
			t.Errorf("%v after %d", err, len(d.asked))
		}
	})
	t.Run("and not after another refusal", func(t *testing.T) {
		d := &desk{fail: order.ErrPassUsed}
		_, err := newCounter(d, &house{suggestions: at(7, 8)}).Hold(t.Context(), base(), Wish{Qty: 1})
		if !errors.Is(err, order.ErrPassUsed) || len(d.asked) != 1 {
			t.Errorf("%v after %d", err, len(d.asked))
		}
	})
	t.Run("nor when the house is full", func(t *testing.T) {
		full := errors.New("nothing left")
		d := &desk{taken: taken}
		if _, err := newCounter(d, &house{suggestions: at(0), last: full}).Hold(t.Context(), base(), Wish{Qty: 1}); !errors.Is(err, full) {
			t.Error(err)
		}
	})
}

func TestSeatsOf(t *testing.T) {
	c := newCounter(nil, nil)
	hall, err := c.Catalog.Hall(t.Context(), uuid.New())
	if err != nil {
		t.Fatal(err)
	}
	ids, labels := SeatsOf(hall, order.Hold{Block: 2, Seats: []int{3, 4, 99}})
	if !slices.Equal(ids, []string{"2-3", "2-4"}) || !slices.Equal(labels, []string{"Stalls, row 2, seat 3", "Stalls, row 2, seat 4"}) {
		t.Errorf("SeatsOf = %v, %v", ids, labels)
	}
}
