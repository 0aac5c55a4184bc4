// Package api carries the inventory's Desk over HTTP, for roles that run apart. Handler serves any Desk under
// /internal/v1 in JSON, errors as application/problem+json; Client is a Desk again. Whether the seats are in this process
// or behind this API makes no difference to a caller, and one test runs against both.
//
// The API trusts its callers: it belongs on the internal listener, with mutual TLS unless that is loopback.
package api

import (
	"time"

	"github.com/google/uuid"
)

// Prefix is the path below which Handler answers.
const Prefix = "/internal/v1/performances"

// Limits of requests and answers, in bytes.
const (
	maxBody   = 64 << 10
	maxImport = 48 << 20 // a plan of the largest size, in base64
	maxAnswer = 64 << 20
)

// How long the server works on a request before it answers with what is known.
const (
	changeTimeout = 10 * time.Second
	saleTimeout   = time.Minute // a change of state of all blocks
	awaitTimeout  = 20 * time.Second
)

// problem is an error, RFC 9457. Type is "/problems/" and the code of the inventory's error.
type problem struct {
	Type        string    `json:"type"`
	Title       string    `json:"title"`
	Status      int       `json:"status"`
	Detail      string    `json:"detail,omitempty"`
	Performance uuid.UUID `json:"performance"`
	Block       int16     `json:"block"`
	Seats       []int16   `json:"seats,omitempty"`
}

const (
	problemType     = "application/problem+json"
	problemURI      = "/problems/"
	contentTypeJSON = "application/json"
)

// seatsRequest is the body of every change of seats. Each action reads the fields it needs.
type seatsRequest struct {
	Seats    []int16   `json:"seats"`
	Hold     uuid.UUID `json:"hold,omitzero"`
	Order    uuid.UUID `json:"order,omitzero"`
	LeaseMS  int64     `json:"lease_ms,omitempty"`
	Channels []int16   `json:"channels,omitempty"`
	Reason   int16     `json:"reason,omitempty"`
}

type bestRequest struct {
	Qty        int       `json:"qty"`
	Offer      string    `json:"offer,omitempty"`
	Accessible bool      `json:"accessible,omitempty"`
	Hold       uuid.UUID `json:"hold,omitzero"`
	LeaseMS    int64     `json:"lease_ms,omitempty"`
	Channels   []int16   `json:"channels,omitempty"`
}

type importRequest struct {
	Plan       []byte           `json:"plan"`
	BlockSeats int              `json:"block_seats,omitempty"`
	Channels   map[string]int16 `json:"channels,omitempty"`
}

// reply is the answer of every action; each fills the fields it has.
type reply struct {
	Block        int16       `json:"block,omitempty"`
	Seats        []int16     `json:"seats,omitempty"`
	Orders       []uuid.UUID `json:"orders,omitempty"`
	Expires      time.Time   `json:"expires,omitzero"`
	LeftMS       int64       `json:"left_ms,omitempty"`
	Complete     bool        `json:"complete,omitempty"`
	Done         int         `json:"done,omitempty"`
	Total        int         `json:"total,omitempty"`
	State        string      `json:"state,omitempty"`
	Performances []uuid.UUID `json:"performances,omitempty"`
	Document     []byte      `json:"document,omitempty"`
	Hash         string      `json:"hash,omitempty"`
	BlockSeats   int         `json:"block_seats,omitempty"`
	Sellable     int         `json:"sellable,omitempty"`
	Held         int         `json:"held,omitempty"`
	Sold         int         `json:"sold,omitempty"`
}
