package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/catalog"
	"github.com/stanchion-queue/stanchion/inventory"
	"github.com/stanchion-queue/stanchion/inventory/chart"
	"github.com/stanchion-queue/stanchion/perf/load"
	"github.com/stanchion-queue/stanchion/tools/halls/halls"
)

// demoSpace gives the demo's events, venues and performances the same ids at every start.
var demoSpace = uuid.MustParse("6f1d3c52-6a5e-5f0e-9f0c-0d5a4c1f7a10")

func demoID(name string) uuid.UUID { return uuid.NewSHA1(demoSpace, []byte(name)) }

// demoShow is one performance of the demo and its hall.
type demoShow struct {
	venue catalog.Venue
	event catalog.Event
	slug  string
	room  string
	in    time.Duration // from the first start
	hall  *chart.Chart
	price int64 // of the first category; each further one costs a quarter less
}

func demoTheatre() demoShow {
	return demoShow{
		venue: catalog.Venue{ID: demoID("venue/theatre"), Slug: "theatre", Name: "Stadttheater", City: "Köln", Country: "DE", TimeZone: "Europe/Berlin"},
		event: catalog.Event{ID: demoID("event/gala"), Slug: "gala", Title: "Gala at the theatre", Summary: "One evening, one orchestra, every seat numbered."},
		slug:  "gala", room: "onsale", in: 60 * 24 * time.Hour, hall: halls.Theatre(), price: 8500,
	}
}

func demoStadium() demoShow {
	return demoShow{
		venue: catalog.Venue{ID: demoID("venue/stadium"), Slug: "stadium", Name: "Rheinpark Arena", City: "Köln", Country: "DE", TimeZone: "Europe/Berlin"},
		event: catalog.Event{ID: demoID("event/final"), Slug: "final", Title: "The final", Summary: "Sixty thousand seats, open without a waiting room."},
		slug:  "final", in: 90 * 24 * time.Hour, hall: halls.Stadium(), price: 12500,
	}
}

// put makes the show's venue, event, seats and, last, the performance itself: a performance that fans can see can be bought.
// Everything may be repeated, so a start that was cut off is finished by the next one.
func (d demoShow) put(ctx context.Context, c *catalog.Service, desk inventory.Desk, currency string, blockSeats int) error {
	id := demoID("performance/" + d.slug)
	if _, err := c.Find(ctx, id.String()); err == nil {
		return nil
	} else if !errors.Is(err, catalog.ErrNotFound) {
		return err
	}
	plan, err := d.hall.Encode()
	if err != nil {
		return fmt.Errorf("encode hall: %w", err)
	}
	if err := desk.ImportPerformance(ctx, id, plan, blockSeats, nil); err != nil {
		return fmt.Errorf("import seats: %w", err)
	}
	if err := desk.AwaitImport(ctx, id); err != nil {
		return fmt.Errorf("import seats: %w", err)
	}
	if err := desk.OpenSale(ctx, id); err != nil {
		return fmt.Errorf("open sale: %w", err)
	}
	known := func(err error) error {
		if errors.Is(err, catalog.ErrExists) {
			return nil
		}
		return err
	}
	p := catalog.Performance{ID: id, Slug: d.slug, Event: d.event.ID, Venue: d.venue.ID, Room: d.room, Currency: currency, SaleOpen: true,
		Starts: time.Now().Add(d.in).Truncate(24 * time.Hour).Add(19*time.Hour + 30*time.Minute)}
	price := d.price
	for _, k := range d.hall.Categories {
		fee := price / 20
		p.Offers = append(p.Offers, catalog.Offer{Category: k.Name, Price: price, Fee: fee, Tax: (price + fee) * 7 / 107})
		price -= price / 4
	}
	return errors.Join(known(c.PutVenue(ctx, d.venue)), known(c.PutEvent(ctx, d.event)), known(c.PutPerformance(ctx, p)))
}

// demoCrowd is who comes to the demo. Fans dial from 127.16.0.0/12, so that no limit has to be switched off for them.
func (l *launch) demoCrowd(opensAt time.Time) load.Options {
	d := l.cfg.Demo
	name, show := "onsale", demoTheatre()
	o := load.Options{
		Target: "http://" + l.listeners["public"].Addr().String(), Entry: l.cfg.Rooms[name].Entry, Room: name, Performance: show.slug, Prefix: l.cfg.Prefix,
		Fans: d.Fans, PerSecond: d.PerSecond, AbsentShare: d.Absent, NoScriptShare: d.NoScript, BuyShare: d.Buy, SilentShare: 0.3,
		StayMean: 40 * time.Second, Seed: d.Seed, Log: l.log.With("part", "simulated fans"),
	}
	if lobby := time.Until(opensAt); lobby > time.Second {
		o.LobbyShare, o.LobbyFor = d.Lobby, lobby
	}
	if strings.HasPrefix(o.Target, "http://127.") {
		o.Source = netip.MustParsePrefix("127.16.0.0/12")
	}
	return o
}

// buildDemo brings the theatre in before fans are served, the stadium behind them, and then lets the crowd come.
func (p *plant) buildDemo(ctx context.Context, shop *core, seats inventory.Desk, rooms *waiting) error {
	currency, block := p.cfg.Core.Currency, p.cfg.Seats.Block
	if err := demoTheatre().put(ctx, shop.catalog, seats, currency, block); err != nil {
		return fmt.Errorf("bring the theatre in: %w", err)
	}
	if p.cfg.Demo.Stadium {
		p.goes("stadium", func(ctx context.Context) error {
			began := time.Now()
			if err := demoStadium().put(ctx, shop.catalog, seats, currency, block); err != nil {
				return fmt.Errorf("bring the stadium in: %w", err)
			}
			p.log.Info("stadium is in", "duration_ms", time.Since(began).Milliseconds())
			debug.FreeOSMemory() // reading a plan of 60,000 seats takes tens of megabytes once
			return nil
		})
	}
	if p.cfg.Demo.Fans == 0 {
		return nil
	}
	crowd := p.demoCrowd(rooms.first["onsale"].Opening.OpensAtTime())
	p.goes("simulated fans", func(ctx context.Context) error {
		report, err := load.Run(ctx, crowd)
		if err != nil {
			return err
		}
		if ctx.Err() == nil {
			_, err = report.WriteTo(os.Stderr)
		}
		return err
	})
	return nil
}
