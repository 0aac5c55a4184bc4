package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/admin/health"
	"github.com/stanchion-queue/stanchion/config"
	"github.com/stanchion-queue/stanchion/core/api"
	"github.com/stanchion-queue/stanchion/core/bus"
	"github.com/stanchion-queue/stanchion/core/bus/kafkabus"
	"github.com/stanchion-queue/stanchion/core/bus/outboxbus"
	"github.com/stanchion-queue/stanchion/core/buyer"
	"github.com/stanchion-queue/stanchion/core/catalog"
	"github.com/stanchion-queue/stanchion/core/catalogsql"
	"github.com/stanchion-queue/stanchion/core/counter"
	"github.com/stanchion-queue/stanchion/core/guest"
	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/payment"
	"github.com/stanchion-queue/stanchion/core/payment/pspclient"
	"github.com/stanchion-queue/stanchion/core/payment/pspsim"
	"github.com/stanchion-queue/stanchion/core/pgstore"
	"github.com/stanchion-queue/stanchion/core/shop"
	"github.com/stanchion-queue/stanchion/core/sqlitestore"
	"github.com/stanchion-queue/stanchion/core/sqlstore"
	"github.com/stanchion-queue/stanchion/core/ticketing"
	"github.com/stanchion-queue/stanchion/core/vitals"
	"github.com/stanchion-queue/stanchion/inventory"
	"github.com/stanchion-queue/stanchion/pass"
	"github.com/stanchion-queue/stanchion/pass/keyring"
	queueapi "github.com/stanchion-queue/stanchion/queue/api"
	"github.com/stanchion-queue/stanchion/queue/controller"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// core is the core role in this process.
type core struct {
	handler http.Handler
	catalog *catalog.Service
	db      *sqlstore.DB
	vitals  *vitals.Recorder
}

// roomDesk is the waiting room as the order service sees it.
type roomDesk struct{ service queueapi.Service }

var _ order.Rooms = roomDesk{}

func (d roomDesk) EndSession(ctx context.Context, room, session string) error {
	id, err := line.ParseSessionID(session)
	if err != nil {
		return nil // no session of a room ever had that name
	}
	return d.known(d.service.EndSession(ctx, room, id))
}

func (d roomDesk) ExtendSession(ctx context.Context, room, session string, until time.Time) error {
	id, err := line.ParseSessionID(session)
	if err != nil {
		return nil
	}
	return d.known(d.service.ExtendSession(ctx, room, id, until))
}

// known says that a room that is gone has no session to end.
func (roomDesk) known(err error) error {
	if errors.Is(err, controller.ErrNoRoom) {
		return nil
	}
	return err
}

func (p *plant) openOrders(ctx context.Context) (*sqlstore.DB, error) {
	s := p.cfg.Stores.Orders
	if s.Engine == "postgres" {
		text, err := os.ReadFile(s.URLFile)
		if err != nil {
			return nil, fmt.Errorf("stores.orders.url_file: %w", err)
		}
		db, err := pgstore.Open(ctx, strings.TrimSpace(string(text)), s.Connections)
		if err != nil {
			return nil, fmt.Errorf("stores.orders: %w", err)
		}
		return db, nil
	}
	db, err := sqlitestore.Open(ctx, filepath.Join(p.cfg.DataDir, "orders.db"), nil)
	if err != nil {
		return nil, fmt.Errorf("stores.orders: %w", err)
	}
	return db, nil
}

// providerURL is the payment provider's API: configured, or the simulator of this installation.
func (p *plant) providerURL() string {
	if u := p.cfg.Core.ProviderURL; u != "" {
		return u
	}
	if ln := p.listeners["provider"]; ln != nil {
		return "http://" + ln.Addr().String()
	}
	return "http://" + p.cfg.Listeners.Provider.Address
}

// providerSecrets are the key of the provider's API and the secret that signs its webhooks.
func (p *plant) providerSecrets() (key, webhook string, err error) {
	raw, err := p.secret("provider")
	if err != nil {
		return "", "", err
	}
	webhook, err = p.fileSecret(p.cfg.Core.WebhookFile, "webhook")
	return hex.EncodeToString(raw), webhook, err
}

func (p *plant) buildProvider(ctx context.Context) error {
	key, webhook, err := p.providerSecrets()
	if err != nil {
		return err
	}
	o := pspsim.Options{Path: filepath.Join(p.cfg.DataDir, "psp.db"), PublicURL: p.providerURL(), SecretKey: key, WebhookSecret: webhook, Log: p.log}
	if ln := p.listeners["public"]; ln != nil {
		o.WebhookURL = "http://" + ln.Addr().String() + "/api/v1/webhooks/simulator"
	} else if base := p.cfg.PublicURL; base != "" {
		o.WebhookURL = strings.TrimSuffix(base, "/") + "/api/v1/webhooks/simulator"
	}
	s, err := pspsim.New(ctx, o)
	if err != nil {
		return fmt.Errorf("payment provider simulator: %w", err)
	}
	p.closing("payment provider simulator", func(context.Context) error { return s.Close() })
	p.goes("payment provider simulator", s.Run)
	return p.serves("provider", p.cfg.Listeners.Provider, p.listeners["provider"], s.Handler())
}

func (p *plant) buildCore(ctx context.Context, ring *keyring.Ring, passes *pass.Keys, rooms *waiting, seats inventory.Desk) (*core, error) {
	if seats == nil {
		var err error
		if seats, err = p.inventoryClient(); err != nil {
			return nil, err
		}
	}
	db, err := p.openOrders(ctx)
	if err != nil {
		return nil, err
	}
	p.closing("order store", func(context.Context) error { return db.Close() })
	p.board.Add(health.Pinged("order store", db.Ping))
	c := &core{db: db}
	store := sqlstore.NewStore(db)
	tables := catalogsql.New(db)
	c.catalog = catalog.New(tables, seats, time.Second)

	key, webhook, err := p.providerSecrets()
	if err != nil {
		return nil, err
	}
	provider, err := pspclient.New(pspclient.Options{URL: p.providerURL(), SecretKey: key, WebhookSecrets: []string{webhook}})
	if err != nil {
		return nil, err
	}
	options := order.Options{
		Store: store, Seats: seatDesk{seats}, Prices: c.catalog, Providers: []payment.Provider{provider}, Log: p.log, Metrics: p.registry, Tracer: p.tracer("order"),
		Timing: order.Timing{HoldLease: time.Duration(p.cfg.Seats.HoldS) * time.Second, Pin: time.Duration(p.cfg.Core.OrderS) * time.Second,
			HoldCap: time.Duration(p.cfg.Seats.HoldS+p.cfg.Seats.ExtendS+p.cfg.Core.OrderS) * time.Second},
		SeatLimit: p.cfg.Seats.PerHold,
	}
	var service queueapi.Service
	if rooms != nil {
		service = rooms.service
	} else if len(p.cfg.Rooms) > 0 {
		if service, err = p.queueClient(); err != nil {
			return nil, err
		}
	}
	if service != nil {
		options.Rooms = roomDesk{service}
	}
	orders, err := order.New(options)
	if err != nil {
		return nil, err
	}
	guestSecret, err := p.secret("guest")
	if err != nil {
		return nil, err
	}
	guests, err := guest.NewKeys(guestSecret)
	if err != nil {
		return nil, err
	}
	staff, err := p.secret("staff")
	if err != nil {
		return nil, err
	}
	buyers := &buyer.Desk{Guests: guests, Passes: passes.Verifier().Issuer(issuer), Now: time.Now}
	tickets := &ticketing.Service{Store: tables, Codes: ticketing.NewCodes(1, ring.Entry, nil), Now: time.Now}
	box := &counter.Counter{Orders: orders, Catalog: c.catalog, Seats: seats}
	keys := &order.Idempotency{Store: store, Now: time.Now, Lock: 30 * time.Second}
	origin := p.providerURL()
	if u, err := url.Parse(origin); err == nil {
		origin = u.Scheme + "://" + u.Host
	}
	pages, err := shop.New(shop.Options{
		Name: p.cfg.Core.ShopName, Orders: orders, Catalog: c.catalog, Counter: box, Seats: seats, Tickets: tickets, Buyers: buyers, Idempotency: keys,
		ProviderOrigin: origin, Prefix: p.cfg.Prefix, Log: p.log, Now: time.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("prepare shop: %w", err)
	}
	jsonAPI := api.New(api.Options{
		Orders: orders, Catalog: c.catalog, Counter: box, Seats: seats, Stage: seats, BlockSeats: p.cfg.Seats.Block, Tickets: tickets, Buyers: buyers, Idempotency: keys,
		StaffToken: hex.EncodeToString(staff), Version: p.version, Log: p.log, Now: time.Now,
	})
	if c.vitals, err = vitals.New(p.registry, time.Now); err != nil {
		return nil, fmt.Errorf("register core metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", pages)
	mux.Handle("/api/", jsonAPI)
	c.handler = p.traced("core", c.vitals.Wrap(mux))

	p.goes("orders", orders.Run)
	p.goes("idempotency keys", keys.Run)
	if err := p.buildBus(ctx, store, options.Rooms); err != nil {
		return nil, err
	}
	if service != nil {
		p.goes("reports to the waiting rooms", func(ctx context.Context) error { return p.report(ctx, c, seats, service) })
	}
	return c, nil
}

// consumerPlaces is the name under which the bus keeps the place of who gives places inside back.
const consumerPlaces = "places-back"

// buildBus carries the core's events: consumers in this process read the outbox itself, or a relay publishes it to Kafka.
func (p *plant) buildBus(ctx context.Context, store *sqlstore.Store, rooms order.Rooms) error {
	var subscriber bus.Subscriber
	if b := p.cfg.Stores.Bus; b.Engine == "kafka" {
		o := kafkabus.Options{Addresses: b.Addresses, Prefix: b.TopicPrefix, ClientID: "stanchion-" + p.node, Log: p.log, Tracer: p.tracer("bus")}
		if err := kafkabus.EnsureTopics(ctx, o, b.Partitions, b.Replication, bus.TopicOrders, bus.TopicTickets, bus.TopicPasses); err != nil {
			return fmt.Errorf("stores.bus: %w", err)
		}
		publisher, err := kafkabus.NewPublisher(o)
		if err != nil {
			return fmt.Errorf("stores.bus: %w", err)
		}
		p.closing("publisher", func(context.Context) error { return publisher.Close() })
		if subscriber, err = kafkabus.NewSubscriber(o); err != nil {
			return fmt.Errorf("stores.bus: %w", err)
		}
		relay := &bus.Relay{Outbox: store, Publisher: publisher, Log: p.log, Metrics: p.registry}
		p.goes("outbox relay", relay.Run)
	} else {
		inside := &outboxbus.Bus{Spool: store, Log: p.log, Tracer: p.tracer("bus")}
		p.goes("bus", inside.Run)
		subscriber = inside
	}
	if rooms == nil {
		return nil
	}
	p.goes("places back", func(ctx context.Context) error {
		return subscriber.Subscribe(ctx, consumerPlaces, []string{bus.TopicPasses}, order.PlaceBack(rooms))
	})
	return nil
}

// reportEvery is how often the core says how it is doing; a report older than 5 s counts as none.
const reportEvery = time.Second

// report tells each room what is left to sell behind it, and how the core answers. A report that fails is simply late; the room
// goes on without it and says so.
func (p *plant) report(ctx context.Context, c *core, seats inventory.Desk, service queueapi.Service) error {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := p.reportOnce(ctx, c, seats, service)
		if err != nil && !failing {
			p.log.Warn("report to the waiting rooms", "err", err)
		}
		failing = err != nil
	}
}

func (p *plant) reportOnce(ctx context.Context, c *core, seats inventory.Desk, service queueapi.Service) error {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	shows, err := c.catalog.Performances(ctx)
	if err != nil {
		return err
	}
	byRoom := map[string][]uuid.UUID{}
	for _, s := range shows {
		if s.Room != "" {
			byRoom[s.Room] = append(byRoom[s.Room], s.ID)
		}
	}
	ratio, p99, _ := c.vitals.Snapshot()
	var errs []error
	for room, performances := range byRoom {
		r := controller.Report{Source: "core " + p.node, ErrorRatio: ratio, P99MS: float64(p99) / float64(time.Millisecond)}
		if len(r.Source) > 64 {
			r.Source = r.Source[:64]
		}
		var sellable, sold int64
		for _, id := range performances {
			free, held, gone, err := seats.Counts(ctx, id)
			if err != nil {
				errs = append(errs, fmt.Errorf("count seats: %w", err))
				continue
			}
			sellable, sold = sellable+int64(free), sold+int64(gone)
			r.Held += int64(held)
		}
		r.Sellable, r.SoldTotal = &sellable, &sold
		if err := service.Report(ctx, room, r); err != nil && !errors.Is(err, controller.ErrNoRoom) {
			errs = append(errs, fmt.Errorf("room %s: %w", room, err))
		}
	}
	return errors.Join(errs...)
}

// queueClient calls the queue role in another process.
func (p *plant) queueClient() (queueapi.Service, error) {
	bases, c, err := p.client(config.QueueRole, 10*time.Second)
	if err != nil {
		return nil, err
	}
	return queueapi.NewClient(c, bases...)
}
