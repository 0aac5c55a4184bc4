package edge

import (
	"context"
	"time"

	"github.com/stanchion-queue/stanchion/pass"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// Room is the edge's side of one waiting room. Methods are safe for concurrent use. Those without a context do no I/O.
// Errors that a fan should hear of are *line.Refusal; any other error is answered as "one moment" and logged.
type Room interface {
	// View is the room as this edge knows it; never nil.
	View() *line.View
	// Join gives the fan a place, or the place of the ticket in the request, or lets the fan in when the room is open and
	// the request says that is wanted.
	Join(ctx context.Context, r line.JoinRequest) (line.Place, error)
	// Enter lets a fan in without a place while the room is open; line.RefusedNotOpen means "take a place". group is the
	// client's network.
	Enter(ctx context.Context, group string) (line.Grant, error)
	// Place says where a ticket stands and re-signs it.
	Place(ctx context.Context, ticket string) (line.Place, error)
	// Claim asks to be let in with a called ticket; it may take 8 s when the request allows waiting at the door. The
	// returned place carries the re-signed ticket also when the error is a refusal.
	Claim(ctx context.Context, r line.ClaimRequest) (line.Grant, line.Place, error)
	// Use notes that a verified (also an expired) pass was used at now. It does not allocate in the usual case.
	Use(c pass.Claims, now time.Time) line.Use
	// Leave ends a session; its place inside is free again.
	Leave(ctx context.Context, session line.SessionID) error
	// Abandon gives a place in line up.
	Abandon(ticket string) error
	// Record is the signed record of a line with its amendments, as JSON.
	Record(ctx context.Context, id line.ID) ([]byte, error)
	// LedgerChunk is one chunk of a lane's sealed bases; a full chunk never changes.
	LedgerChunk(ctx context.Context, id line.ID, lane uint8, chunk uint32) (body []byte, full bool, err error)
}

// Verifier checks a pass's signature, room and times. It returns pass.ErrExpired (with the claims) for a pass that is
// genuine but has run out.
type Verifier interface {
	Verify(token, room string, now time.Time) (pass.Claims, error)
}
