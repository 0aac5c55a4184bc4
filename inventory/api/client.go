package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/inventory"
	"github.com/stanchion-queue/stanchion/inventory/chart"
)

// Client is a Desk behind HTTP. Every block has a home among the nodes, the same for all clients (rendezvous hashing), so
// that one owner merges its changes; when that node can not be reached the next one serves. That wastes work while it
// lasts and is not wrong. Safe for concurrent use.
type Client struct {
	nodes []string
	http  *http.Client
}

var _ inventory.Desk = (*Client)(nil)

// NewClient speaks to the nodes at these base URLs ("http://127.0.0.1:9093"). The http client brings TLS and connection
// limits; nil means http.DefaultClient. Its Timeout must be above a minute, or zero.
func NewClient(nodes []string, client *http.Client) (*Client, error) {
	if len(nodes) == 0 {
		return nil, errors.New("inventory client: no node given")
	}
	c := &Client{http: client}
	if c.http == nil {
		c.http = http.DefaultClient
	}
	for _, n := range nodes {
		u, err := url.Parse(n)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("inventory client: node %q is not an http or https URL", n)
		}
		c.nodes = append(c.nodes, strings.TrimSuffix(n, "/"))
	}
	return c, nil
}

// order lists the nodes for a block, its home first.
func (c *Client) order(performance uuid.UUID, block int16) []string {
	weight := func(node string) uint64 {
		d := xxhash.New()
		_, _ = d.WriteString(node) // never fails
		_, _ = d.Write(binary.BigEndian.AppendUint16(performance[:], uint16(block)))
		return d.Sum64()
	}
	nodes := slices.Clone(c.nodes)
	slices.SortFunc(nodes, func(a, b string) int { return cmp.Compare(weight(b), weight(a)) })
	return nodes
}

// whole is the block by which requests about a whole performance choose their node.
const whole int16 = -1

// do sends one request and reads its answer. changes says that it may have an effect: then a lost answer is unknown.
func (c *Client) do(ctx context.Context, method, path string, performance uuid.UUID, block int16, body, into any, changes bool) error {
	var payload []byte
	if body != nil {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			return inventory.ErrorByCode(inventory.ErrBadRequest.Code(), err.Error(), performance, block, nil)
		}
	}
	var last error
	for _, node := range c.order(performance, block) {
		answer, err := c.send(ctx, method, node+path, payload, into)
		switch {
		case err == nil:
			return answer
		case unsent(err):
			last = err // surely without effect; the next node may serve
			continue
		case changes:
			return unknown(performance, block, err)
		}
		last = err
	}
	return inventory.ErrorByCode(inventory.ErrUnavailable.Code(), fmt.Sprintf("no inventory node answered: %v", last), performance, block, nil)
}

func unknown(performance uuid.UUID, block int16, err error) error {
	return inventory.ErrorByCode(inventory.ErrUnknownOutcome.Code(), fmt.Sprintf("the answer was lost: %v", err), performance, block, nil)
}

// unsent tells errors before the first byte was sent.
func unsent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// send gives the desk's error as answer, and as err that no readable answer came.
func (c *Client) send(ctx context.Context, method, target string, payload []byte, into any) (answer, err error) {
	r, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	if payload != nil {
		r.Header.Set("Content-Type", contentTypeJSON)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if resp.Header.Get("Content-Type") == problemType {
		var p problem
		if err := json.Unmarshal(data, &p); err != nil {
			return nil, fmt.Errorf("status %d with an unreadable problem: %w", resp.StatusCode, err)
		}
		return inventory.ErrorByCode(strings.TrimPrefix(p.Type, problemURI), p.Detail, p.Performance, p.Block, p.Seats), nil
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return nil, fmt.Errorf("an unreadable answer: %w", err)
	}
	return nil, nil
}

func (c *Client) get(ctx context.Context, performance uuid.UUID, path string) (reply, error) {
	var out reply
	err := c.do(ctx, http.MethodGet, Prefix+"/"+performance.String()+path, performance, whole, nil, &out, false)
	return out, err
}

func (c *Client) post(ctx context.Context, performance uuid.UUID, path string, body any) (reply, error) {
	var out reply
	err := c.do(ctx, http.MethodPost, Prefix+"/"+performance.String()+path, performance, whole, body, &out, true)
	return out, err
}

func blockPath(performance uuid.UUID, block int16) string {
	return Prefix + "/" + performance.String() + "/blocks/" + strconv.Itoa(int(block))
}

func (c *Client) change(ctx context.Context, performance uuid.UUID, block int16, action string, q seatsRequest) (time.Time, error) {
	var out reply
	err := c.do(ctx, http.MethodPost, blockPath(performance, block)+"/"+action, performance, block, q, &out, true)
	var e *inventory.Error
	if errors.As(err, &e) && errors.Is(err, inventory.ErrUnknownOutcome) && len(e.Seats()) == 0 {
		err = inventory.ErrorByCode(e.Code(), e.Detail(), performance, block, q.Seats)
	}
	return out.Expires, err
}

func (c *Client) look(ctx context.Context, performance uuid.UUID, block int16, path string) (reply, error) {
	var out reply
	err := c.do(ctx, http.MethodGet, blockPath(performance, block)+path, performance, block, nil, &out, false)
	return out, err
}

// ImportPerformance implements inventory.Desk.
func (c *Client) ImportPerformance(ctx context.Context, performance uuid.UUID, plan []byte, blockSeats int, channels map[string]int16) error {
	_, err := c.post(ctx, performance, "/import", importRequest{plan, blockSeats, channels})
	return err
}

// AwaitImport implements inventory.Desk.
func (c *Client) AwaitImport(ctx context.Context, performance uuid.UUID) error {
	for {
		out, err := c.get(ctx, performance, "/await")
		if err != nil || out.Complete {
			return err
		}
	}
}

// ImportProgress implements inventory.Desk.
func (c *Client) ImportProgress(ctx context.Context, performance uuid.UUID) (done, total int, err error) {
	out, err := c.get(ctx, performance, "/progress")
	return out.Done, out.Total, err
}

// Performances implements inventory.Desk.
func (c *Client) Performances(ctx context.Context) ([]uuid.UUID, error) {
	var out reply
	err := c.do(ctx, http.MethodGet, Prefix, uuid.Nil, whole, nil, &out, false)
	return out.Performances, err
}

// Chart implements inventory.Desk.
func (c *Client) Chart(ctx context.Context, performance uuid.UUID) (document []byte, hash string, blockSeats int, err error) {
	out, err := c.get(ctx, performance, "/chart")
	return out.Document, out.Hash, out.BlockSeats, err
}

// OpenSale implements inventory.Desk.
func (c *Client) OpenSale(ctx context.Context, performance uuid.UUID) error {
	_, err := c.post(ctx, performance, "/sale/open", nil)
	return err
}

// PauseSale implements inventory.Desk.
func (c *Client) PauseSale(ctx context.Context, performance uuid.UUID) error {
	_, err := c.post(ctx, performance, "/sale/pause", nil)
	return err
}

// DrainSale implements inventory.Desk.
func (c *Client) DrainSale(ctx context.Context, performance uuid.UUID) error {
	_, err := c.post(ctx, performance, "/sale/drain", nil)
	return err
}

// CloseSale implements inventory.Desk.
func (c *Client) CloseSale(ctx context.Context, performance uuid.UUID) error {
	_, err := c.post(ctx, performance, "/sale/close", nil)
	return err
}

// SaleState implements inventory.Desk.
func (c *Client) SaleState(ctx context.Context, performance uuid.UUID) (string, error) {
	out, err := c.get(ctx, performance, "/sale")
	return out.State, err
}

// FreezeBlock implements inventory.Desk.
func (c *Client) FreezeBlock(ctx context.Context, performance uuid.UUID, block int16) error {
	_, err := c.change(ctx, performance, block, "freeze", seatsRequest{})
	return err
}

// UnfreezeBlock implements inventory.Desk.
func (c *Client) UnfreezeBlock(ctx context.Context, performance uuid.UUID, block int16) error {
	_, err := c.change(ctx, performance, block, "unfreeze", seatsRequest{})
	return err
}

// Hold implements inventory.Desk.
func (c *Client) Hold(ctx context.Context, performance uuid.UUID, block int16, seats []int16, hold uuid.UUID, lease time.Duration, channels []int16) (time.Time, error) {
	return c.change(ctx, performance, block, "hold", seatsRequest{Seats: seats, Hold: hold, LeaseMS: lease.Milliseconds(), Channels: channels})
}

// HoldBest implements inventory.Desk.
func (c *Client) HoldBest(ctx context.Context, performance uuid.UUID, qty int, offer string, accessible bool, hold uuid.UUID, lease time.Duration, channels []int16) (int16, []int16, time.Time, error) {
	out, err := c.post(ctx, performance, "/best/hold", bestRequest{qty, offer, accessible, hold, lease.Milliseconds(), channels})
	return out.Block, out.Seats, out.Expires, err
}

// SuggestBest implements inventory.Desk.
func (c *Client) SuggestBest(ctx context.Context, performance uuid.UUID, qty int, offer string, accessible bool, channels []int16) (int16, []int16, error) {
	out, err := c.post(ctx, performance, "/best/suggest", bestRequest{Qty: qty, Offer: offer, Accessible: accessible, Channels: channels})
	return out.Block, out.Seats, err
}

// Extend implements inventory.Desk.
func (c *Client) Extend(ctx context.Context, performance uuid.UUID, block int16, seats []int16, hold uuid.UUID, lease time.Duration) (time.Time, error) {
	return c.change(ctx, performance, block, "extend", seatsRequest{Seats: seats, Hold: hold, LeaseMS: lease.Milliseconds()})
}

// Pin implements inventory.Desk.
func (c *Client) Pin(ctx context.Context, performance uuid.UUID, block int16, seats []int16, hold uuid.UUID, lease time.Duration) (time.Time, error) {
	return c.change(ctx, performance, block, "pin", seatsRequest{Seats: seats, Hold: hold, LeaseMS: lease.Milliseconds()})
}

// Release implements inventory.Desk.
func (c *Client) Release(ctx context.Context, performance uuid.UUID, block int16, seats []int16, hold uuid.UUID) error {
	_, err := c.change(ctx, performance, block, "release", seatsRequest{Seats: seats, Hold: hold})
	return err
}

// Sell implements inventory.Desk.
func (c *Client) Sell(ctx context.Context, performance uuid.UUID, block int16, seats []int16, hold, order uuid.UUID) error {
	_, err := c.change(ctx, performance, block, "sell", seatsRequest{Seats: seats, Hold: hold, Order: order})
	return err
}

// Rescue implements inventory.Desk.
func (c *Client) Rescue(ctx context.Context, performance uuid.UUID, block int16, seats []int16, order uuid.UUID) error {
	_, err := c.change(ctx, performance, block, "rescue", seatsRequest{Seats: seats, Order: order})
	return err
}

// Unsell implements inventory.Desk.
func (c *Client) Unsell(ctx context.Context, performance uuid.UUID, block int16, seats []int16, order uuid.UUID) error {
	_, err := c.change(ctx, performance, block, "unsell", seatsRequest{Seats: seats, Order: order})
	return err
}

// Kill implements inventory.Desk.
func (c *Client) Kill(ctx context.Context, performance uuid.UUID, block int16, seats []int16, reason int16) error {
	_, err := c.change(ctx, performance, block, "kill", seatsRequest{Seats: seats, Reason: reason})
	return err
}

// OpenSeats implements inventory.Desk.
func (c *Client) OpenSeats(ctx context.Context, performance uuid.UUID, block int16, seats []int16, reason int16) error {
	_, err := c.change(ctx, performance, block, "open", seatsRequest{Seats: seats, Reason: reason})
	return err
}

// LookHold implements inventory.Desk.
func (c *Client) LookHold(ctx context.Context, performance uuid.UUID, block int16, hold uuid.UUID) ([]int16, time.Duration, error) {
	out, err := c.look(ctx, performance, block, "/holds/"+hold.String())
	return out.Seats, time.Duration(out.LeftMS) * time.Millisecond, err
}

// LookOrder implements inventory.Desk.
func (c *Client) LookOrder(ctx context.Context, performance uuid.UUID, block int16, order uuid.UUID) ([]int16, error) {
	out, err := c.look(ctx, performance, block, "/orders/"+order.String())
	return out.Seats, err
}

// Sold implements inventory.Desk.
func (c *Client) Sold(ctx context.Context, performance uuid.UUID, block int16) ([]int16, []uuid.UUID, error) {
	out, err := c.look(ctx, performance, block, "/sold")
	return out.Seats, out.Orders, err
}

// Availability implements inventory.Desk.
func (c *Client) Availability(ctx context.Context, performance uuid.UUID, since int64) (chart.Availability, error) {
	var out chart.Availability
	path := Prefix + "/" + performance.String() + "/availability?since=" + strconv.FormatInt(since, 10)
	err := c.do(ctx, http.MethodGet, path, performance, whole, nil, &out, false)
	return out, err
}

// Counts implements inventory.Desk.
func (c *Client) Counts(ctx context.Context, performance uuid.UUID) (sellable, held, sold int, err error) {
	out, err := c.get(ctx, performance, "/counts")
	return out.Sellable, out.Held, out.Sold, err
}
