package main

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/stanchion-queue/stanchion/perf/load"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// All times of a history are microseconds of the machine's one wall clock (Unix), which store, edges, fans and the sampler share.

// history is everything that was written down during a run. The verdict rests on it alone.
type history struct {
	Cap     int64
	EpochMs int64
	Samples []sample // by time
	Facts   []fact   // in the order in which the fans wrote them
	Guesses []guess
	Told    []told
	Early   bool // outage mode
	Faults  []fault
}

// save writes the samples beside the facts, for whoever wants to know what went wrong.
func (h *history) save(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("save samples: %w", err)
	}
	w := bufio.NewWriter(file)
	enc := json.NewEncoder(w)
	for i := range h.Samples {
		if err := enc.Encode(&h.Samples[i]); err != nil {
			return errors.Join(fmt.Errorf("save samples: %w", err), file.Close())
		}
	}
	if err := errors.Join(w.Flush(), file.Close()); err != nil {
		return fmt.Errorf("save samples: %w", err)
	}
	return nil
}

// sample is one look into the store, taken in one atomic step.
type sample struct {
	At, Took               int64
	OK                     bool // the store answered
	StoreMs, TickMs        int64
	Active, Granted, Freed int64
	Ended                  int64 // of Active: over, but not yet known to be over to every edge
	Counted                int64 // places found in the store's sets one by one; -1: not counted this time
	Line                   string
	Called, Total          uint64
	Sealed                 uint32
	LimitedBy              line.Limit
	Late                   int64
}

// fact is something that the edges told a fan.
type fact struct {
	Fan  int           `json:"fan"`
	Kind load.FactKind `json:"kind"`
	Sent int64         `json:"sent"`
	At   int64         `json:"at"`
	Text string        `json:"text,omitempty"`
	Rank uint64        `json:"rank,omitempty"`
}

// guess is a forecast that the public status object gave for a rank.
type guess struct {
	At               int64
	Rank             uint64
	Low, Point, High float64 // seconds
}

// told is how far an edge says that the line has been called.
type told struct {
	At     int64
	Edge   int
	Line   string
	Called uint64
}

// fault is something that was broken on purpose.
type fault struct {
	Kind     string
	From, To int64
	Store    bool // the store did not answer
}

// pass is what the audit needs of a pass. Its signature is not checked: the edges gave it.
type pass struct {
	Session string `json:"sub"`
	Exp     int64  `json:"exp"` // Unix seconds
}

func readPass(token string) (pass, error) {
	part := strings.Split(token, ".")
	if len(part) != 3 {
		return pass{}, errors.New("read pass: want three parts")
	}
	doc, err := base64.RawURLEncoding.DecodeString(part[1])
	if err != nil {
		return pass{}, fmt.Errorf("read pass: %w", err)
	}
	var p pass
	if err := json.Unmarshal(doc, &p); err != nil {
		return pass{}, fmt.Errorf("read pass: %w", err)
	}
	if p.Session == "" || p.Exp == 0 {
		return pass{}, errors.New("read pass: sub or exp is missing")
	}
	return p, nil
}

// stamp is what the audit needs of a ticket, read by the published format and not by the program's own parser.
type stamp struct {
	id  [28]byte // line, incarnation, sequence
	win uint32
}

func readTicket(text string) (s stamp, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return s, fmt.Errorf("read ticket: %w", err)
	}
	if len(raw) != 97 || raw[0] != 1 {
		return s, errors.New("read ticket: want 97 bytes of version 1")
	}
	copy(s.id[:16], raw[5:21])
	copy(s.id[16:], raw[57:69])
	s.win = binary.BigEndian.Uint32(raw[53:57])
	return s, nil
}
