package agent

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/room"
)

func ticketKey(kid uint8) line.TicketKey {
	return line.TicketKey{KID: kid, Secret: bytes.Repeat([]byte{'0' + kid}, 32)}
}

// Keys are exchanged while fans join and ask for their places: nobody in line is refused.
func TestTicketKeysRotateUnderLoad(t *testing.T) {
	r := testRoom(t, room.Defaults())
	a := &Agent{rooms: map[string]*Room{r.name: r}}
	first := line.TicketKey{KID: 1, Secret: []byte(strings.Repeat("t", 32))}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()

	var mu sync.Mutex
	var inLine []string
	var wg sync.WaitGroup
	joined := make(chan struct{}, 1024)
	for range 4 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil && n < 20_000; n++ {
				p, err := r.Join(ctx, line.JoinRequest{})
				if err != nil {
					t.Errorf("join: %v", err)
					return
				}
				mu.Lock()
				if n%50 == 0 {
					inLine = append(inLine, p.Ticket)
				}
				old := inLine[n*7919%len(inLine)]
				mu.Unlock()
				if _, err := r.Place(ctx, old); err != nil {
					t.Errorf("place of a ticket in line: %v", err)
					return
				}
				select {
				case joined <- struct{}{}:
				default:
				}
			}
		})
	}
	for i, ring := range [][]line.TicketKey{
		{first, ticketKey(2)}, {ticketKey(2), first}, {ticketKey(2), first, ticketKey(3)}, {ticketKey(3), ticketKey(2), first},
	} {
		for range 200 { // fans come between the exchanges
			select {
			case <-joined:
			case <-time.After(10 * time.Second):
				t.Fatal("nobody joins")
			}
		}
		if err := a.SetTicketKeys(ring...); err != nil {
			t.Fatalf("ring %d: %v", i, err)
		}
	}
	stop()
	wg.Wait()
	signers := map[byte]int{}
	for _, text := range inLine {
		if _, err := r.Place(t.Context(), text); err != nil {
			t.Errorf("a ticket in line is refused after the rotation: %v", err)
		}
		raw, err := sessionText.DecodeString(text[:4])
		if err != nil {
			t.Fatal(err)
		}
		signers[raw[1]]++
	}
	if p, err := r.Join(t.Context(), line.JoinRequest{}); err != nil {
		t.Error(err)
	} else if raw, err := sessionText.DecodeString(p.Ticket[:4]); err != nil || raw[1] != 3 {
		t.Errorf("new tickets are signed by key %d, want 3", raw[1])
	}
	if signers[1] == 0 {
		t.Errorf("tickets by key: %v; the test saw none of the first", signers)
	}
}

func TestTicketKeysThatWouldRefuseTheLine(t *testing.T) {
	r := testRoom(t, room.Defaults())
	a := &Agent{rooms: map[string]*Room{r.name: r}}
	p, err := r.Join(t.Context(), line.JoinRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for name, ring := range map[string][]line.TicketKey{
		"no key":                     nil,
		"key that signs is missing":  {ticketKey(2)},
		"another secret in its name": {ticketKey(1)},
		"key twice":                  {ticketKey(2), ticketKey(2)},
		"short secret":               {{KID: 2, Secret: []byte("short")}},
	} {
		if err := a.SetTicketKeys(ring...); !errors.Is(err, line.ErrTicketRing) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := r.Place(t.Context(), p.Ticket); err != nil {
			t.Errorf("%s: the ring changed: %v", name, err)
		}
	}
}

// noLines is a store that knows no line.
type noLines struct{ queue.Store }

func (noLines) Line(context.Context, string, line.ID) (queue.LineState, error) {
	return queue.LineState{}, queue.ErrNoLine
}

func (noLines) LedgerChunk(context.Context, string, line.ID, uint8, uint32) ([]byte, error) {
	return nil, queue.ErrNoLine
}

func TestUnknownLineIsRefused(t *testing.T) {
	r := testRoom(t, room.Defaults())
	r.o.Store = noLines{}
	_, recordErr := r.Record(t.Context(), line.ID{9})
	_, _, chunkErr := r.LedgerChunk(t.Context(), line.ID{9}, 0, 0)
	for what, err := range map[string]error{"record": recordErr, "ledger": chunkErr} {
		if x, ok := line.AsRefusal(err); !ok || x.Code != line.RefusedLineOver {
			t.Errorf("%s of an unknown line: %v", what, err)
		}
	}
}
