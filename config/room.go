package config

import (
	"encoding/json"
	"fmt"
	"time"
)

// Room is a room's settings document: the value under `rooms:` in the file, and, as JSON, what the settings store holds.
type Room struct {
	Host  string `json:"host" format:"host?" hot:"yes" doc:"The one host name the room lives on, without port. Empty: any, for an origin with a single name."`
	Entry string `json:"entry" default:"/" format:"path" hot:"yes" doc:"Where a fan goes once let in, if the page they came for is unknown."`
	Title string `json:"title" len:"0..120" hot:"yes" doc:"What the line is for, at the top of the waiting page."`

	Mode          string  `json:"mode" default:"normal" enum:"normal|queue-all|admit-all|paused|draining|maintenance|ended" hot:"yes" doc:"normal: open while uncrowded, else a line. queue-all: everybody takes a place. admit-all: switched off, everybody passes and the cap is not kept. paused: nobody is let in, places are kept. draining: nobody is let in, those inside finish. maintenance: as paused, and the page says why. ended: the sale is over."`
	Cap           int     `json:"cap" default:"100" range:"1..10000000" hot:"yes" doc:"Fans inside at once. Lowering it puts nobody out."`
	RatePerSecond float64 `json:"rate_per_second" default:"10" range:"0.01..100000" hot:"yes" doc:"Fans let in a second, at most; in any 60 s at most 60 times this plus one second's burst."`
	SeatLimit     int     `json:"seat_limit" default:"4" range:"1..100" hot:"yes" doc:"Seats one fan may buy; written into the pass."`

	FirstLeaseS  int `json:"first_lease_s" default:"30" range:"2..600" hot:"yes" doc:"A fresh pass must be used within this, else its place is free again."`
	IdleS        int `json:"idle_s" default:"300" range:"2..86400" hot:"yes" doc:"A fan inside who asks for nothing this long has left."`
	StayMaxS     int `json:"stay_max_s" default:"900" range:"5..86400" hot:"yes" doc:"Longest stay inside."`
	GraceS       int `json:"grace_s" default:"120" range:"1..86400" hot:"yes" doc:"A called fan may come this late without standing behind others at the door."`
	ReturnS      int `json:"return_s" default:"600" range:"0..86400" hot:"yes" doc:"Who ran out of idle time less than this ago, without leaving or buying, is let in again first."`
	OutageBoundS int `json:"outage_bound_s" default:"240" range:"0..3600" hot:"yes" doc:"How long edges go on without the room store."`

	OutageMode  string `json:"outage_mode" default:"strict" enum:"strict|early" hot:"yes" doc:"Without the store, an edge refills a place when its pass has run out (strict), or as soon as its fan says they are done (early: more admissions, overshoot bounded by fans who end and return elsewhere)."`
	AfterOutage string `json:"after_outage" default:"hold" enum:"hold|open|closed" hot:"yes" doc:"After outage_bound_s without the store: hold (nobody in, places kept), open (all pass) or closed (503)."`

	RequestBudget RequestBudget `json:"request_budget" hot:"yes" doc:"Requests one session may make."`
	LateShare     float64       `json:"late_share" default:"0.1" range:"0..1" hot:"yes" doc:"Share of grants in 60 s for fans who came after grace_s while others wait at the door."`
	LateMin       int           `json:"late_min_per_minute" default:"20" range:"0..1000000" hot:"yes" doc:"Late fans let in per 60 s whatever late_share says."`
	NetworkShare  float64       `json:"network_share" default:"0.05" range:"0.0001..1" hot:"yes" doc:"Share of grants in 60 s for one client network. 1 switches the limit off."`
	NetworkMin    int           `json:"network_min_per_minute" default:"20" range:"1..1000000" hot:"yes" doc:"Grants per 60 s for one client network whatever network_share says."`
	DoorDial      float64       `json:"door_dial" default:"0.5" range:"0..5" hot:"yes" doc:"How many called fans stand at the door on purpose: higher fills places sooner and makes called fans wait longer."`
	ParkedPerEdge int           `json:"parked_per_edge" default:"2000" range:"1..100000" hot:"yes" doc:"Called fans whose claims wait at one edge for a free place; more are answered 503 with Retry-After and keep their place."`
	JoinLimits    JoinLimits    `json:"join_limits" hot:"yes" doc:"How fast places in line are given out."`

	Who          string       `json:"who" default:"none" enum:"none|account|invite|presale|work|token" hot:"yes" doc:"The scarce thing behind a place in line; one claim each. none: nothing scarce, each ticket draws once."`
	Account      Account      `json:"account" hot:"yes" doc:"who: account."`
	Codes        Codes        `json:"codes" hot:"yes" doc:"who: invite or presale, and lanes that ask for a code."`
	Work         Work         `json:"work" hot:"yes" doc:"who: work."`
	PrivateToken PrivateToken `json:"token" hot:"yes" doc:"who: token (private access tokens, RFC 9578)."`

	Lanes   []Lane  `json:"lanes" default:"[{name: general, weight: 1}]" len:"1..16" hot:"yes" doc:"Separate orders within the line; places are shared by weight among lanes with somebody waiting. The first lane is for everybody without a code."`
	Opening Opening `json:"opening" doc:"When the room opens and how the lobby is ordered."`
	Origin  Origin  `json:"origin" hot:"yes" doc:"Health of the origin, which lowers the rate by itself."`

	Message  string   `json:"message" len:"0..280" hot:"yes" doc:"What the organiser says, shown with its time to everybody in line."`
	Policy   string   `json:"policy" len:"0..1000" hot:"yes" doc:"The organiser's rules in words, published in the line record."`
	Branding Branding `json:"branding" hot:"yes" doc:"Look of the waiting page."`
}

// RequestBudget bounds the requests of one session (GCRA).
type RequestBudget struct {
	PerSecond float64 `json:"per_second" default:"5" range:"0.1..10000" hot:"yes" doc:"Sustained requests a second."`
	Burst     int     `json:"burst" default:"40" range:"1..100000" hot:"yes" doc:"Requests at once; sub-resources cost a quarter."`
}

// JoinLimits bounds how fast places in line are given out, at each edge.
type JoinLimits struct {
	NetworkPerSecond float64 `json:"network_per_second" default:"20" range:"0.01..100000" hot:"yes" doc:"Joins a second from one client network (IPv4 /24, IPv6 /48). Whole cities can share one behind their carrier."`
	NetworkBurst     int     `json:"network_burst" default:"600" range:"1..1000000" hot:"yes" doc:"Joins at once from one client network."`
	CodePerMinute    int     `json:"code_tries_per_minute" default:"10" range:"1..10000" hot:"yes" doc:"Codes tried a minute from one client network."`
}

// Account recognises a fan by a signed token of the organiser's own log-in.
type Account struct {
	JWKSURL  string `json:"jwks_url" format:"url?" hot:"yes" doc:"Keys of the log-in (JWKS)."`
	JWKSFile string `json:"jwks_file" format:"file?" hot:"yes" doc:"The same from a file; wins over jwks_url."`
	Issuer   string `json:"issuer" len:"0..512" hot:"yes" doc:"Expected iss. Empty: any."`
	Audience string `json:"audience" len:"0..512" hot:"yes" doc:"Expected aud. Empty: any."`
	Cookie   string `json:"cookie" format:"token?" hot:"yes" doc:"Cookie that carries the token."`
	Header   string `json:"header" format:"token?" hot:"yes" doc:"Header that carries it, with or without Bearer."`
	Claim    string `json:"claim" default:"sub" len:"1..128" hot:"yes" doc:"Claim that names the account."`
}

// Codes lists invite or presale codes by their hashes.
type Codes struct {
	SHA256 []string `json:"sha256" format:"hex32" len:"0..1000" secret:"yes" hot:"yes" doc:"SHA-256 of each code (hex). For more, use file."`
	File   string   `json:"file" format:"file?" hot:"yes" doc:"File with one such hash a line, on every edge."`
}

// Work is a puzzle the fan's device solves.
type Work struct {
	Bits int `json:"bits" default:"18" range:"8..32" hot:"yes" doc:"Difficulty: about 2^bits hashes. 18 is under a second on a phone."`
}

// PrivateToken names an issuer of private access tokens.
type PrivateToken struct {
	IssuerURL string `json:"issuer_url" format:"url?" hot:"yes" doc:"Issuer whose tokens are accepted."`
}

// Lane is one order within the line.
type Lane struct {
	Name   string `json:"name" format:"name" hot:"yes" doc:"Name in tickets, metrics and the console."`
	Weight int    `json:"weight" default:"1" range:"1..1000" hot:"yes" doc:"Share of places relative to the other lanes."`
	Code   bool   `json:"code" default:"false" hot:"yes" doc:"Only with a code of the room's codes."`
}

// Opening says when and how the line begins.
type Opening struct {
	Lobby    bool   `json:"lobby" default:"false" doc:"Those who come before the opening wait in a lobby, whose order the draw decides."`
	OpensAt  string `json:"opens_at" format:"time?" hot:"yes" doc:"Time of the opening (RFC 3339). Empty: open from the start."`
	OpensInS int    `json:"opens_in_s" default:"0" range:"0..86400" doc:"Demo only: seconds from the first start, fixed to a time then."`
	Draw     Draw   `json:"draw" doc:"How the lobby is ordered."`
}

// Draw names the randomness of an opening.
type Draw struct {
	Kind   string `json:"kind" default:"operator" enum:"operator|announced|drand" doc:"drand: a public beacon's round. announced: a public source that everybody can check. operator: drawn by the program, which proves nothing, and the page says so."`
	Round  uint64 `json:"round" default:"0" doc:"drand: the round. 0: the one that is due due_in_s after the opening."`
	Source string `json:"source" len:"0..280" doc:"announced: which number, published where and when."`
	DueInS int    `json:"due_in_s" default:"60" range:"0..604800" doc:"announced, drand: seconds after the opening at which the value is public."`
}

// Origin is what the room expects of its origin. While it is missed the rate is halved, and then grows again slowly.
type Origin struct {
	P99MS      int     `json:"p99_ms" default:"1000" range:"1..600000" hot:"yes" doc:"99th percentile of its answers' time."`
	ErrorRatio float64 `json:"error_ratio" default:"0.05" range:"0.0001..1" hot:"yes" doc:"Share of 5xx answers."`
}

// Branding is the organiser's look. Colours with too little contrast are refused.
type Branding struct {
	Name       string `json:"name" len:"0..80" hot:"yes" doc:"Organiser."`
	Logo       string `json:"logo" format:"file?" hot:"yes" doc:"File of the logo (SVG, PNG or WebP, at most 64 KiB)."`
	LogoText   string `json:"logo_text" len:"0..120" hot:"yes" doc:"What the logo shows, for those who cannot see it."`
	Accent     string `json:"accent" format:"colour?" hot:"yes" doc:"Colour of the bar and buttons, #rrggbb."`
	Background string `json:"background" format:"colour?" hot:"yes" doc:"Colour behind the page, #rrggbb."`
}

// OpensAtTime is opening.opens_at as a time, zero when empty.
func (o Opening) OpensAtTime() time.Time {
	t, err := time.Parse(time.RFC3339Nano, o.OpensAt)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

// Document is the room's settings document as the settings store keeps it: JSON, every key written out.
func (r Room) Document() ([]byte, error) {
	doc, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode room settings: %w", err)
	}
	return doc, nil
}

// MaxDocumentBytes bounds a room's settings document, so that it and its history entry fit one Consul transaction.
const MaxDocumentBytes = 128 << 10

// ParseRoom reads the settings document of the named room, JSON or YAML, and validates it as Load does. Keys that are
// absent take their defaults; unknown keys are refused. The error, if any, is a [*Problems].
func ParseRoom(name string, doc []byte) (Room, error) {
	b := newBinder()
	cfg := Config{Rooms: map[string]Room{}}
	b.defaults(&cfg)
	b.document("settings of room "+name, MaxDocumentBytes, doc, "rooms."+name, &cfg)
	room, given := cfg.Rooms[name]
	switch {
	case given:
		validateRoom(&b.problems, b.sources, name, room)
	case len(b.problems.List) == 0:
		b.problems.add(Problem{Source: Source{Name: "settings of room " + name}, What: "are empty", Do: "give a document, {} for all defaults"})
	}
	return room, b.problems.err()
}
