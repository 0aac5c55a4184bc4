package agent

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"strings"

	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// MaxWorkChars bounds a solution of the work challenge.
const MaxWorkChars = 64

// holder is the scarce thing behind a new ticket. more says whether a code is accepted beside those of the settings; it may be nil.
func (s *snapshot) holder(name string, lane int, req line.JoinRequest, more func(string, [32]byte) bool) (line.Who, line.WhoKind, error) {
	if s.laneNamed(lane).Code || s.settings.Who == room.WhoInvite || s.settings.Who == room.WhoPresale {
		code := strings.TrimSpace(req.Invite)
		sum := sha256.Sum256([]byte(code))
		_, ok := s.codes[sum]
		if !ok && more != nil {
			ok = more(name, sum)
		}
		if !ok || code == "" {
			return line.Who{}, 0, &line.Refusal{Code: line.RefusedInvite, Detail: "This line needs one of the organiser's codes."}
		}
		return line.HashWho(name, line.WhoInvite, code), line.WhoInvite, nil
	}
	switch s.settings.Who {
	case room.WhoAccount:
		if req.Account == "" {
			return line.Who{}, 0, &line.Refusal{Code: line.RefusedAccount, Detail: "Log in first: this line gives one place to each account."}
		}
		return line.HashWho(name, line.WhoAccount, req.Account), line.WhoAccount, nil
	case room.WhoWork:
		if !WorkSolved(name, s.current(), req.Work, s.settings.WorkBits) {
			return line.Who{}, 0, &line.Refusal{Code: line.RefusedWork, Detail: "The puzzle of this line is not solved."}
		}
		return line.HashWho(name, line.WhoWork, s.current().String()+"."+req.Work), line.WhoWork, nil
	case room.WhoToken:
		if req.Account == "" { // the edge redeems the token and passes on its unforgeable part
			return line.Who{}, 0, &line.Refusal{Code: line.RefusedAccount, Detail: "This line asks your device for a private access token."}
		}
		return line.HashWho(name, line.WhoPrivate, req.Account), line.WhoPrivate, nil
	}
	var w line.Who
	_, _ = rand.Read(w[:]) // never fails
	return w, line.WhoNone, nil
}

// laneNamed is the settings' lane for a lane of the record, which keeps its index whatever the settings do.
func (s *snapshot) laneNamed(lane int) room.Lane {
	b := s.books[s.current()]
	if b == nil || lane >= len(b.opened.Record.Lanes) {
		return room.Lane{}
	}
	name := b.opened.Record.Lanes[lane].Name
	for _, l := range s.settings.Lanes {
		if l.Name == name {
			return l
		}
	}
	return room.Lane{}
}

// WorkSolved checks a solution of a room's puzzle: SHA-256 over the tag "work1", the room, the line id in hexadecimal and the
// solution, each but the last followed by a line feed, begins with so many zero bits. A solution is 1 to 64 printable ASCII characters.
// One solution stands for one holder, so a second ticket needs a second one.
func WorkSolved(roomName string, id line.ID, solution string, zeroBits int) bool {
	if solution == "" || len(solution) > MaxWorkChars {
		return false
	}
	for _, c := range []byte(solution) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	sum := sha256.Sum256([]byte("work1\n" + roomName + "\n" + id.String() + "\n" + solution))
	return bits.LeadingZeros64(binary.BigEndian.Uint64(sum[:8])) >= zeroBits
}

// codeSet makes the settings' code hashes searchable.
func codeSet(hashes []string) map[[32]byte]struct{} {
	set := make(map[[32]byte]struct{}, len(hashes))
	for _, h := range hashes {
		if raw, err := hex.DecodeString(h); err == nil && len(raw) == 32 {
			set[[32]byte(raw)] = struct{}{}
		}
	}
	return set
}
