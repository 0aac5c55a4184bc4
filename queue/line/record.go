package line

// DrawKind says where an opening's randomness comes from.
type DrawKind string

// The kinds of draw.
const (
	DrawNone      DrawKind = ""          // no lobby, or the lobby keeps its order of arrival windows
	DrawDrand     DrawKind = "drand"     // a drand round fixed by number before the lobby opens
	DrawAnnounced DrawKind = "announced" // a public source and time named in advance; the value is typed in, anybody can check it
	DrawOperator  DrawKind = "operator"  // drawn by the operator's own machine: proves nothing, and the page says so
)

// Draw is the part of a line record that fixes the lobby's order before anybody can know it.
type Draw struct {
	Kind   DrawKind `json:"kind"`
	Chain  string   `json:"chain,omitempty"`  // drand chain hash, hexadecimal
	Round  uint64   `json:"round,omitempty"`  // drand round
	Source string   `json:"source,omitempty"` // announced: the public source, in words
	DueAt  int64    `json:"due_at_ms"`        // Unix milliseconds of store time at which the value becomes public
}

// LaneSpec is one lane of a line: a separate order with a weight.
type LaneSpec struct {
	Name   string `json:"name"`
	Weight uint32 `json:"weight"` // 1 to 1000
}

// Record is the signed, public statement of a line, made before the line's first stamp and never changed. Lanes are
// addressed everywhere by their index here.
type Record struct {
	Version   int        `json:"version"` // 1
	Room      string     `json:"room"`
	Line      ID         `json:"line"`
	EpochMs   int64      `json:"epoch_ms"`    // store time at which the line was created; windows count from here
	OpensAtMs int64      `json:"opens_at_ms"` // end of the lobby; equal to EpochMs without a lobby
	Lanes     []LaneSpec `json:"lanes"`
	Draw      Draw       `json:"draw"`
	WhoKind   WhoKind    `json:"who_kind"`
	Honours   []ID       `json:"honours,omitempty"` // older lines, oldest first, that are called before this one
	Policy    string     `json:"policy,omitempty"`  // the organiser's words
}

// LobbyEnd is the first window after the lobby.
func (r Record) LobbyEnd() Window { return WindowAt(r.EpochMs, r.OpensAtMs+WindowMs-1) }

// Amendment is a signed change of a record's opening, chained to what it amends. With a draw it must name a later round and be
// published before the old round is due.
type Amendment struct {
	Version   int    `json:"version"` // 1
	Line      ID     `json:"line"`
	Prev      string `json:"prev"` // SHA-256 of the signed statement that this one amends, hexadecimal
	OpensAtMs int64  `json:"opens_at_ms"`
	Draw      Draw   `json:"draw"`
	MadeAtMs  int64  `json:"made_at_ms"`
	Reason    string `json:"reason"`
}

// DrawResult is the public randomness once it is known. For drand, Value is the round's randomness and Proof its signature.
type DrawResult struct {
	Round uint64 `json:"round"`
	Value string `json:"value"` // hexadecimal
	Proof string `json:"proof,omitempty"`
}

// Published is what `GET lines/{line}/record` answers: each statement as the exact bytes that were signed, so that a verifier
// needs no canonical JSON.
type Published struct {
	Record     Signed      `json:"record"`
	Amendments []Signed    `json:"amendments"`
	Result     *DrawResult `json:"result,omitempty"`
	Sealed     Window      `json:"sealed"` // windows sealed so far
	Chain      string      `json:"chain"`  // seal chain over them, hexadecimal
	Totals     []uint64    `json:"totals"` // per lane
	Lobby      []uint64    `json:"lobby"`  // per lane, once the lobby is sealed
	EndedMs    int64       `json:"ended_ms,omitempty"`
}

// Signed is one statement and its Ed25519 signature over tag, statement. Body is the statement's JSON, base64url in transit.
type Signed struct {
	KID  string `json:"kid"`
	Body string `json:"body"`
	Sig  string `json:"sig"`
}
