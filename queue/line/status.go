package line

import "time"

// Phase is what a room is doing, as fans are told.
type Phase string

// The phases of a room.
const (
	PhaseOpen        Phase = "open"        // uncrowded: fans go straight in
	PhaseLobby       Phase = "lobby"       // before the opening
	PhaseDrawing     Phase = "drawing"     // the lobby is closed, the public randomness is not known yet
	PhaseWaiting     Phase = "waiting"     // there is a line
	PhasePaused      Phase = "paused"      // the operator stopped admission; places are kept
	PhaseDraining    Phase = "draining"    // nobody new is admitted, those inside finish
	PhaseSoldOut     Phase = "sold_out"    // the core has nothing sellable and nothing held
	PhaseMaintenance Phase = "maintenance" // the origin is down for maintenance
	PhaseEnded       Phase = "ended"       // the sale is over
)

// Limit names what bounds admission at the moment; one word, shown to operators and in the status object.
type Limit string

// What can limit admission.
const (
	LimitNone     Limit = ""         // somebody would be admitted if they came
	LimitCap      Limit = "cap"      // all places inside are taken
	LimitRate     Limit = "rate"     // the operator's rate
	LimitCore     Limit = "core"     // the rate the core can bear
	LimitStock    Limit = "stock"    // what is left to sell
	LimitPaused   Limit = "paused"   // an operator's pause
	LimitNobody   Limit = "nobody"   // nobody is waiting
	LimitStore    Limit = "store"    // the room's store does not answer
	LimitSchedule Limit = "schedule" // not open yet
)

// Status is the one public object about a room: the same bytes for every fan, cacheable for a second, complete for computing a
// place, an interval and the next poll in the page.
type Status struct {
	Room        string       `json:"room"`
	Line        ID           `json:"line"`
	Phase       Phase        `json:"phase"`
	ServerTime  time.Time    `json:"server_time"`
	OpensAt     *time.Time   `json:"opens_at,omitempty"`
	Lanes       []LaneStatus `json:"lanes"`
	Draw        *DrawStatus  `json:"draw,omitempty"`
	LimitedBy   Limit        `json:"limited_by"`
	Message     string       `json:"message"` // organiser's words, at most 280 characters
	MessageAt   *time.Time   `json:"message_at,omitempty"`
	Stock       *int64       `json:"stock,omitempty"` // sellable seats, when the core reports them
	Poll        Poll         `json:"poll"`
	SampleOneIn uint32       `json:"sample_one_in"`       // 1 ticket in so many calls `place` each minute; 0: none
	Who         string       `json:"who,omitempty"`       // the scarce thing a place asks for: account, invite, presale, work or token; empty: nothing
	WorkBits    int          `json:"work_bits,omitempty"` // with work: leading zero bits of the solved puzzle
	Version     uint64       `json:"version"`             // grows with every change of anything but server_time
}

// LaneStatus is one lane's part of the status object.
type LaneStatus struct {
	Name       string  `json:"name"`
	Called     uint64  `json:"called"`           // every rank below it has been called
	Total      uint64  `json:"total"`            // sealed tickets
	LobbyCount uint64  `json:"lobby_count"`      // those of them that were stamped in the lobby; 0 until the lobby is sealed
	Before     uint64  `json:"before,omitempty"` // ranks of older, honoured lines that are called first
	PerMinute  float64 `json:"per_minute"`       // ranks called in the last minute
	ETA        ETA     `json:"eta"`
}

// ETA is what a page needs to turn "people ahead" into an interval.
type ETA struct {
	Kind      string  `json:"kind"`       // sample, velocity or early
	PerSecond float64 `json:"per_second"` // sample: fans of this lane let in per second; else ranks called per second; 0: cannot say
	Low       float64 `json:"low"`        // factors on the point estimate: the 80% interval is [low*t, high*t]
	High      float64 `json:"high"`
	BlockSize uint64  `json:"block_size,omitempty"`
	FromBlock uint64  `json:"from_block,omitempty"`
	Present   string  `json:"present,omitempty"` // base64, one u8 share (of 255) per block, at most 256 blocks
	Cause     string  `json:"cause,omitempty"`   // why the estimate worsened: paused, slower-core, rate, fewer-absent
}

// DrawStatus is the public part of a draw.
type DrawStatus struct {
	Kind  DrawKind `json:"kind"`
	Round uint64   `json:"round,omitempty"`
	Value string   `json:"value,omitempty"` // hexadecimal, once it is known
}

// Poll tells pages how often to ask.
type Poll struct {
	MinMs  int64   `json:"min_ms"`
	MaxMs  int64   `json:"max_ms"`
	Spread float64 `json:"spread"` // jitter: the next poll is at t*(1-spread) to t*(1+spread)

	// Front is how many ranks of each lane may be called at any moment, because so many places are free: twice the free places while a room
	// fills, 0 in a full one. Pages this near ask as often as they may.
	Front uint64 `json:"front,omitempty"`

	// FrontMaxMs replaces MaxMs for the first tenth of a lane when little is left to sell, so that news of the end arrives.
	FrontMaxMs int64 `json:"front_max_ms,omitempty"`
}
