package chart

import "github.com/google/uuid"

// Availability is which seats of a performance were free at some moment of the last second or two. It is for drawing a
// seat map; only a hold decides.
type Availability struct {
	Performance uuid.UUID `json:"performance"`
	// Ver is the version to ask changes since. It only grows.
	Ver int64 `json:"ver"`
	// Chart is the content hash of the chart, in hex.
	Chart string `json:"chart"`
	// State is the performance's sale state: "closed", "open", "paused" or "draining".
	State string `json:"state"`
	// Blocks holds the blocks that changed since the version asked for.
	Blocks []BlockAvailability `json:"blocks"`
}

// BlockAvailability is the part of one block.
type BlockAvailability struct {
	Block int16 `json:"block"`
	Ver   int64 `json:"ver"`
	Seats int   `json:"seats"` // number of seats in the block
	// Free has one bit per seat, seat 0 in the lowest bit of the first byte; set when the public may hold it now.
	Free Bits `json:"free"`
}

// Bits is a set of small numbers. In JSON it is base64.
type Bits []byte

// NewBits makes an empty set that can hold 0 … n-1.
func NewBits(n int) Bits { return make(Bits, (n+7)/8) }

// Set adds i, which must be within the size the set was made for.
func (b Bits) Set(i int) { b[i/8] |= 1 << (i % 8) }

// Has tells whether i is in the set; numbers outside its size are not.
func (b Bits) Has(i int) bool { return i >= 0 && i/8 < len(b) && b[i/8]&(1<<(i%8)) != 0 }
