package inventory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/inventory/chart"
)

// ImportPerformance implements Desk.
func (s *Service) ImportPerformance(ctx context.Context, performance uuid.UUID, plan []byte, blockSeats int, channels map[string]int16) error {
	if performance == uuid.Nil {
		return ErrBadRequest.because("an id is the zero UUID")
	}
	c, err := chart.Import(strings.NewReader(string(plan)))
	if err != nil {
		return ErrBadRequest.because("%v", err).with(performance, 0, nil, err)
	}
	layout, err := c.Layout(blockSeats)
	if err != nil {
		return ErrBadRequest.because("%v", err).with(performance, 0, nil, err)
	}
	for name, channel := range channels {
		if c.CategoryIndex(name) < 0 || channel < 0 {
			return ErrBadRequest.because("channel %d of category %q: the chart has no such category, or the channel is negative", channel, name)
		}
	}
	document, err := c.Encode()
	if err != nil {
		return ErrBadRequest.because("%v", err).with(performance, 0, nil, err)
	}
	p := Performance{
		ID: performance, Chart: hashOf(document), BlockSeats: layout.BlockSeats, Blocks: len(layout.Blocks),
		Channels: channels, ImportedAt: s.opt.Now().UTC().Truncate(time.Millisecond), Sale: Closed, Settled: true,
	}
	if err := s.opt.Store.PutChart(ctx, p.Chart, document); err != nil {
		return asError(err, ErrUnavailable)
	}
	stored, err := s.opt.Store.AddPerformance(ctx, p)
	if err != nil {
		return ErrUnknownOutcome.with(performance, 0, nil, err)
	}
	if stored.Chart != p.Chart || stored.BlockSeats != p.BlockSeats || !sameChannels(stored.Channels, p.Channels) {
		return ErrConflict.because("the performance exists with another chart, block size or channels").with(performance, 0, nil, nil)
	}
	s.keepLayout(layoutKey{p.Chart, p.BlockSeats}, layout)
	v, err := s.open(ctx, stored)
	if err != nil {
		return err
	}
	s.resume(v)
	return nil
}

func sameChannels(a, b map[string]int16) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// resume lets an import, and a change of the sale state, go on in the background.
func (s *Service) resume(v *venue) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.running || v.entry.Complete && v.entry.Settled {
		return
	}
	v.running = true
	started := s.goes(func() {
		s.m.importing.Inc()
		defer s.m.importing.Dec()
		for attempt := 0; ; attempt++ {
			err := s.work(v)
			v.mu.Lock()
			v.failure = err
			v.running = err != nil && s.life.Err() == nil && !errors.Is(err, ErrConflict)
			again := v.running
			v.mu.Unlock()
			if err != nil && s.life.Err() == nil {
				s.log.Error("import a performance", "performance", v.id, "attempt", attempt+1, "error", err)
			}
			if !again || pause(s.life, attempt) != nil {
				return
			}
		}
	})
	v.running = started
}

// work creates the blocks that do not exist and brings all to the wanted state.
func (s *Service) work(v *venue) error {
	start := time.Now()
	v.mu.Lock()
	entry := v.entry
	v.mu.Unlock()
	if !entry.Complete {
		if err := s.createBlocks(v, entry); err != nil {
			return err
		}
		if err := s.update(s.life, v, func(p *Performance) { p.Complete = true }); err != nil {
			return err
		}
		s.log.Info("created the seats of a performance", "performance", v.id, "blocks", len(v.owners), "seats", v.layout.Chart.SeatCount(), "took", time.Since(start))
	}
	v.saleMu.Lock()
	defer v.saleMu.Unlock()
	return s.converge(s.life, v)
}

func (s *Service) createBlocks(v *venue, entry Performance) error {
	v.mu.Lock()
	v.created = 0
	v.mu.Unlock()
	return each(s.life, len(v.owners), cap(s.importSlots), func(ctx context.Context, b int) error {
		select {
		case s.importSlots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		defer func() { <-s.importSlots }()
		spec := BlockSpec{Epoch: s.opt.Epoch, Chart: v.hash}
		for n := range v.layout.Blocks[b].Seats {
			_, _, seat, _ := v.layout.At(chart.Place{Block: int16(b), Seat: int16(n)})
			category := v.layout.Chart.Categories[seat.Category].Name
			spec.Seats = append(spec.Seats, SeatSpec{Channel: entry.Channels[category]})
		}
		if _, err := s.opt.Store.CreateBlock(ctx, Key{v.id, int16(b)}, spec); err != nil {
			return fmt.Errorf("create block %d of %v: %w", b, v.id, err)
		}
		v.mu.Lock()
		v.created++
		v.mu.Unlock()
		return nil
	})
}

// each runs f for 0 … n-1, at most limit at a time, and gives the first error.
func each(ctx context.Context, n, limit int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(n, limit) {
		wg.Go(func() {
			for i := range next {
				if err := f(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

// update changes a performance's entry, whatever others do to it at the same time.
func (s *Service) update(ctx context.Context, v *venue, change func(*Performance)) error {
	var unknown error
	for attempt := range mostTries {
		p, err := s.opt.Store.Performance(ctx, v.id)
		if err != nil {
			if unknown != nil {
				return ErrUnknownOutcome.with(v.id, 0, nil, unknown)
			}
			return asError(err, ErrUnavailable)
		}
		change(&p)
		err = s.opt.Store.UpdatePerformance(ctx, p)
		switch {
		case errors.Is(err, ErrVersion):
			continue
		case err != nil: // done or not: the same change is made once more
			if unknown = err; pause(ctx, attempt) != nil {
				return ErrUnknownOutcome.with(v.id, 0, nil, unknown)
			}
			continue
		}
		p.Version++
		v.mu.Lock()
		s.remember(v, p)
		v.mu.Unlock()
		return nil
	}
	if unknown != nil {
		return ErrUnknownOutcome.with(v.id, 0, nil, unknown)
	}
	return ErrUnavailable.because("the performance's entry keeps changing")
}

// remember keeps an entry; v.mu is held.
func (s *Service) remember(v *venue, p Performance) {
	if p.Version < v.entry.Version {
		return
	}
	if p.Complete && !v.entry.Complete {
		v.created = len(v.owners)
		close(v.imported)
	}
	v.entry, v.entryAt = p, s.opt.Now()
}

// entry gives the performance's entry, at most a second old when other processes may change it.
func (s *Service) entry(ctx context.Context, v *venue) (Performance, error) {
	v.mu.Lock()
	p, at := v.entry, v.entryAt
	v.mu.Unlock()
	if !s.opt.Shared || s.opt.Now().Sub(at) < viewAge {
		return p, nil
	}
	p, err := s.opt.Store.Performance(ctx, v.id)
	if err != nil {
		return p, asError(err, ErrUnavailable)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	s.remember(v, p)
	return v.entry, nil
}

// converge brings every block that is not frozen to the wanted state; v.saleMu is held.
func (s *Service) converge(ctx context.Context, v *venue) error {
	v.mu.Lock()
	entry := v.entry
	v.mu.Unlock()
	if entry.Settled || !entry.Complete {
		return nil
	}
	err := each(ctx, len(v.owners), 8, func(ctx context.Context, b int) error {
		err := s.setState(ctx, v, int16(b), entry.Sale, []State{Closed, Open, Paused, Draining})
		if errors.Is(err, ErrBlockFrozen) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.update(ctx, v, func(p *Performance) {
		if p.Sale == entry.Sale {
			p.Settled = true
		}
	})
}

func (s *Service) setState(ctx context.Context, v *venue, block int16, to State, from []State) error {
	o, err := s.owner(v, block)
	if err != nil {
		return err
	}
	r := newRequest()
	r.set = &transition{from: slices.DeleteFunc(slices.Clone(from), func(f State) bool { return f == to }), to: to}
	_, err = s.do(ctx, o, r)
	return err
}

func (s *Service) sale(ctx context.Context, performance uuid.UUID, to State) error {
	v, err := s.venue(ctx, performance)
	if err != nil {
		return err
	}
	v.saleMu.Lock()
	defer v.saleMu.Unlock()
	if err := s.update(ctx, v, func(p *Performance) { p.Sale, p.Settled = to, false }); err != nil {
		return err
	}
	if err := s.converge(ctx, v); err != nil {
		s.resume(v) // the wish is stored; the rest of the blocks follow in the background
		return err
	}
	return nil
}

// OpenSale implements Desk.
func (s *Service) OpenSale(ctx context.Context, performance uuid.UUID) error {
	return s.sale(ctx, performance, Open)
}

// PauseSale implements Desk.
func (s *Service) PauseSale(ctx context.Context, performance uuid.UUID) error {
	return s.sale(ctx, performance, Paused)
}

// DrainSale implements Desk.
func (s *Service) DrainSale(ctx context.Context, performance uuid.UUID) error {
	return s.sale(ctx, performance, Draining)
}

// CloseSale implements Desk.
func (s *Service) CloseSale(ctx context.Context, performance uuid.UUID) error {
	return s.sale(ctx, performance, Closed)
}

// SaleState implements Desk.
func (s *Service) SaleState(ctx context.Context, performance uuid.UUID) (string, error) {
	v, err := s.venue(ctx, performance)
	if err != nil {
		return "", err
	}
	p, err := s.entry(ctx, v)
	if err != nil {
		return "", err
	}
	return p.Sale.String(), nil
}

// FreezeBlock implements Desk.
func (s *Service) FreezeBlock(ctx context.Context, performance uuid.UUID, block int16) error {
	v, err := s.venue(ctx, performance)
	if err != nil {
		return err
	}
	return s.setState(ctx, v, block, Frozen, AnyState())
}

// UnfreezeBlock implements Desk.
func (s *Service) UnfreezeBlock(ctx context.Context, performance uuid.UUID, block int16) error {
	v, err := s.venue(ctx, performance)
	if err != nil {
		return err
	}
	v.saleMu.Lock()
	defer v.saleMu.Unlock()
	p, err := s.entry(ctx, v)
	if err != nil {
		return err
	}
	return s.setState(ctx, v, block, p.Sale, AnyState())
}

// AwaitImport implements Desk.
func (s *Service) AwaitImport(ctx context.Context, performance uuid.UUID) error {
	v, err := s.venue(ctx, performance)
	if err != nil {
		return err
	}
	for {
		v.mu.Lock()
		running, failure := v.running, v.failure
		v.mu.Unlock()
		if p, err := s.entry(ctx, v); err != nil {
			return err
		} else if p.Complete {
			return nil
		}
		if !running && failure != nil {
			return asError(failure, ErrUnavailable)
		}
		// Imported here, the channel tells; imported elsewhere, the entry does.
		t := time.NewTimer(viewAge)
		select {
		case <-v.imported:
		case <-t.C:
		case <-s.life.Done():
			err = ErrUnavailable.because("the inventory is stopping")
		case <-ctx.Done():
			err = ErrUnavailable.because("gave up while the seats were being created").with(performance, 0, nil, ctx.Err())
		}
		t.Stop()
		if err != nil {
			return err
		}
	}
}

// ImportProgress implements Desk.
func (s *Service) ImportProgress(ctx context.Context, performance uuid.UUID) (done, total int, err error) {
	v, err := s.venue(ctx, performance)
	if err != nil {
		return 0, 0, err
	}
	if _, err := s.entry(ctx, v); err != nil {
		return 0, 0, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.created, len(v.owners), nil
}

// nextVer gives the versions of availability: they grow, also across restarts and roughly across processes.
func (s *Service) nextVer() int64 {
	for {
		last := s.ver.Load()
		next := max(last+1, s.opt.Now().UnixMilli())
		if s.ver.CompareAndSwap(last, next) {
			return next
		}
	}
}

// overlap, in milliseconds, is how far back availability reaches before the version asked for, when the versions come
// from several processes' clocks.
const overlap = 2000

// views gives what all blocks of a performance show.
func (s *Service) views(ctx context.Context, v *venue) ([]*view, error) {
	// One caller at a time, so that no version is given out before all smaller ones are: a client that asks for what is
	// newer than the largest it saw must miss nothing.
	all := make([]*view, len(v.owners))
	look := func(ctx context.Context, b int) error {
		o, err := s.owner(v, int16(b))
		if err != nil {
			return err
		}
		all[b], err = o.view(ctx, s.nextVer)
		return err
	}
	v.viewMu.Lock()
	defer v.viewMu.Unlock()
	if err := each(ctx, len(all), 8, look); err != nil {
		return nil, err
	}
	return all, nil
}

// Availability implements Desk.
func (s *Service) Availability(ctx context.Context, performance uuid.UUID, since int64) (chart.Availability, error) {
	v, err := s.venue(ctx, performance)
	if err != nil {
		return chart.Availability{}, err
	}
	p, err := s.entry(ctx, v)
	if err != nil {
		return chart.Availability{}, err
	}
	a := chart.Availability{Performance: v.id, Chart: hexOf(v.hash), State: p.Sale.String(), Ver: since, Blocks: []chart.BlockAvailability{}}
	if !p.Complete {
		return a, nil
	}
	all, err := s.views(ctx, v)
	if err != nil {
		return chart.Availability{}, err
	}
	if s.opt.Shared {
		since -= overlap
	}
	for b, w := range all {
		a.Ver = max(a.Ver, w.ver)
		if w.ver <= since {
			continue
		}
		free := w.free
		if w.head.State != Open {
			free = chart.NewBits(w.seats)
		}
		a.Blocks = append(a.Blocks, chart.BlockAvailability{Block: int16(b), Ver: w.ver, Seats: w.seats, Free: free})
	}
	return a, nil
}

// Counts implements Desk.
func (s *Service) Counts(ctx context.Context, performance uuid.UUID) (sellable, held, sold int, err error) {
	v, err := s.venue(ctx, performance)
	if err != nil {
		return 0, 0, 0, err
	}
	all, err := s.views(ctx, v)
	if err != nil {
		return 0, 0, 0, err
	}
	for _, w := range all {
		sellable, held, sold = sellable+w.sellable, held+w.held, sold+w.sold
	}
	return sellable, held, sold, nil
}
