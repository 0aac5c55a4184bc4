package catalog

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"sync"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/inventory/chart"
)

// Hall is a performance's decoded chart with the block and number of each seat. It never changes.
type Hall struct {
	Chart  *chart.Chart
	Layout *chart.Layout
	Hash   string // of the chart's canonical document, in hex

	// Positions in chart order: of each block's first seat, and of each section's.
	BlockStarts, SectionStarts []int

	mu        sync.Mutex
	documents map[string]*Document // by section; "" is the whole plan
	whole     []byte
}

// Document is a plan as it is sent.
type Document struct{ Plain, Gzip []byte }

func newHall(c *chart.Chart, l *chart.Layout, document []byte, hash string) *Hall {
	h := &Hall{Chart: c, Layout: l, Hash: hash, documents: map[string]*Document{}, whole: document}
	n := 0
	for _, b := range l.Blocks {
		h.BlockStarts = append(h.BlockStarts, n)
		n += len(b.Seats)
	}
	n = 0
	for i := range c.Sections {
		h.SectionStarts = append(h.SectionStarts, n)
		for j := range c.Sections[i].Rows {
			n += len(c.Sections[i].Rows[j].Seats)
		}
	}
	return h
}

// Section finds a section by its id; -1 if there is none.
func (h *Hall) Section(id string) int {
	for i := range h.Chart.Sections {
		if h.Chart.Sections[i].ID == id {
			return i
		}
	}
	return -1
}

// Document gives the canonical plan, or that of one section alone. It is made once. ErrNotFound for an unknown section.
func (h *Hall) Document(section string) (*Document, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d := h.documents[section]; d != nil {
		return d, nil
	}
	plain := h.whole
	if section != "" {
		i := h.Section(section)
		if i < 0 {
			return nil, ErrNotFound
		}
		part := *h.Chart
		part.Sections = h.Chart.Sections[i : i+1]
		var err error
		if plain, err = part.Encode(); err != nil {
			return nil, fmt.Errorf("encode section %s: %w", section, err)
		}
	}
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("compress the chart: %w", err)
	}
	d := &Document{Plain: plain, Gzip: b.Bytes()}
	h.documents[section] = d
	return d, nil
}

// Hall returns a performance's chart. It is read once; charts do not change.
func (s *Service) Hall(ctx context.Context, performance uuid.UUID) (*Hall, error) {
	s.mu.Lock()
	h := s.halls[performance]
	s.mu.Unlock()
	if h != nil {
		return h, nil
	}
	doc, hash, blockSeats, err := s.charts.Chart(ctx, performance)
	if err != nil {
		return nil, fmt.Errorf("read chart: %w", err)
	}
	c, err := chart.Decode(doc)
	if err != nil {
		return nil, fmt.Errorf("read chart: %w", err)
	}
	layout, err := c.Layout(blockSeats)
	if err != nil {
		return nil, fmt.Errorf("read chart: %w", err)
	}
	h = newHall(c, layout, doc, hash)
	s.mu.Lock()
	s.halls[performance] = h
	s.mu.Unlock()
	return h, nil
}

func (h *Hall) price(p Performance, seat order.Seat) (order.SeatPrice, bool) {
	const most = 1<<15 - 1
	if seat.Block < 0 || seat.Block > most || seat.Seat < 0 || seat.Seat > most {
		return order.SeatPrice{}, false
	}
	section, row, s, ok := h.Layout.At(chart.Place{Block: int16(seat.Block), Seat: int16(seat.Seat)})
	if !ok {
		return order.SeatPrice{}, false
	}
	category := h.Chart.Categories[s.Category].Name
	offer, ok := p.Offer(category)
	if !ok {
		return order.SeatPrice{}, false
	}
	return order.SeatPrice{Seat: seat, Label: Label(section, row, s), Offer: category, Price: offer.Price, Fee: offer.Fee, Tax: offer.Tax}, true
}

// Label is a seat as it is printed: "Stalls, row C, seat 12", or "Arena, standing" for an admission area.
func Label(section *chart.Section, row *chart.Row, seat *chart.Seat) string {
	if row.General != nil {
		return section.Name + ", " + row.Label
	}
	return fmt.Sprintf("%s, row %s, seat %s", section.Name, row.Label, seat.Label)
}
