// Package keyring keeps the secret keys of an installation in one directory and reads them as rings.
//
// The directory is mode 0700 and every file in it 0600; anything wider is refused. A file's name says when its key was made, so
// that all nodes which share the directory agree, without talking, on which key signs: the newest that has been there for
// pass.PublishLead, or the oldest while none has.
//
//	ticket-<id>-<made>.key   HMAC key of tickets, 32 bytes in hexadecimal; id is 1 to 255
//	pass-<made>.pem          Ed25519, PKCS #8: signs passes
//	room.key                 master from which each line's session key is derived; never replaced while a line lives
//	record.pem               Ed25519, PKCS #8: signs line records; the controller's alone
//	entry.pem                Ed25519, PKCS #8: signs the codes on sold tickets
package keyring

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stanchion-queue/stanchion/pass"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// Ring is what a key directory holds.
type Ring struct {
	Tickets    []line.TicketKey // the first signs
	RoomMaster []byte           // 32 bytes, see line.RoomKey
	Pass       []pass.Key
	Record     ed25519.PrivateKey
	Entry      ed25519.PrivateKey
}

// Errors of this package; test with errors.Is.
var (
	ErrMissing = errors.New("key is missing")
	ErrOpen    = errors.New("key file may be read by others")
	ErrBad     = errors.New("key file is malformed")
	ErrFull    = errors.New("no key id is free")
)

const madeLayout = "20060102T150405Z"

var (
	ticketFile = regexp.MustCompile(`^ticket-([0-9]{1,3})-([0-9]{8}T[0-9]{6}Z)\.key$`)
	passFile   = regexp.MustCompile(`^pass-([0-9]{8}T[0-9]{6}Z)\.pem$`)
)

// Options of Load.
type Options struct {
	Now  time.Time     // decides which keys sign
	Keep time.Duration // how long a replaced pass key still verifies: longest stay plus outage bound
	// Create makes the directory and each missing key. Without it a missing key is ErrMissing.
	Create bool
}

// Load reads a key directory.
func Load(dir string, o Options) (*Ring, error) {
	r, err := load(dir, o)
	if err != nil {
		return nil, fmt.Errorf("key directory %s: %w", dir, err)
	}
	return r, nil
}

func load(dir string, o Options) (*Ring, error) {
	if o.Create {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	if err := checkMode(dir, 0o700); err != nil {
		return nil, err
	}
	tickets, passes, err := list(dir)
	if err != nil {
		return nil, err
	}
	if o.Create && len(tickets) == 0 {
		if err := addTicket(dir, tickets, o.Now); err != nil {
			return nil, err
		}
	}
	if o.Create && len(passes) == 0 {
		if err := addEd25519(dir, passName(o.Now)); err != nil {
			return nil, err
		}
	}
	if o.Create {
		if err := create(filepath.Join(dir, "room.key"), newSecret); err != nil {
			return nil, err
		}
		for _, name := range []string{"record.pem", "entry.pem"} {
			if err := addEd25519(dir, name); err != nil {
				return nil, err
			}
		}
		if tickets, passes, err = list(dir); err != nil {
			return nil, err
		}
	}
	if len(tickets) == 0 || len(passes) == 0 {
		return nil, fmt.Errorf("%w: it needs at least one ticket-*.key and one pass-*.pem", ErrMissing)
	}

	r := &Ring{}
	for _, f := range tickets {
		secret, err := readSecret(filepath.Join(dir, f.name))
		if err != nil {
			return nil, err
		}
		r.Tickets = append(r.Tickets, line.TicketKey{KID: f.kid, Secret: secret})
	}
	s := signing(tickets, o.Now)
	r.Tickets[0], r.Tickets[s] = r.Tickets[s], r.Tickets[0]

	for i, f := range passes {
		private, err := readEd25519(filepath.Join(dir, f.name))
		if err != nil {
			return nil, err
		}
		key := pass.Key{Private: private}
		if i > 0 {
			key.SignsFrom = f.made.Add(pass.PublishLead)
		}
		if i+1 < len(passes) {
			key.Until = passes[i+1].made.Add(pass.PublishLead + o.Keep)
			if !o.Now.Before(key.Until) {
				continue // nothing it signed is still honoured
			}
		}
		r.Pass = append(r.Pass, key)
	}
	if r.RoomMaster, err = readSecret(filepath.Join(dir, "room.key")); err != nil {
		return nil, err
	}
	if r.Record, err = readEd25519(filepath.Join(dir, "record.pem")); err != nil {
		return nil, err
	}
	if r.Entry, err = readEd25519(filepath.Join(dir, "entry.pem")); err != nil {
		return nil, err
	}
	return r, nil
}

// Rotate adds a new ticket key and a new pass key, which sign once they have been in the directory for pass.PublishLead. Every
// process must load the directory again before that.
func Rotate(dir string, now time.Time) error {
	tickets, _, err := list(dir)
	if err == nil {
		err = addTicket(dir, tickets, now)
	}
	if err == nil {
		err = addEd25519(dir, passName(now))
	}
	if err != nil {
		return fmt.Errorf("rotate keys in %s: %w", dir, err)
	}
	return nil
}

type file struct {
	name string
	made time.Time
	kid  uint8
}

// list finds the rings' files, oldest first.
func list(dir string) (tickets, passes []file, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if m := ticketFile.FindStringSubmatch(e.Name()); m != nil {
			kid, err := strconv.ParseUint(m[1], 10, 8)
			made, terr := time.Parse(madeLayout, m[2])
			if err != nil || kid == 0 || terr != nil {
				return nil, nil, fmt.Errorf("%w: %s: want ticket-<1 to 255>-<time>.key", ErrBad, e.Name())
			}
			if slices.ContainsFunc(tickets, func(f file) bool { return f.kid == uint8(kid) }) {
				return nil, nil, fmt.Errorf("%w: %s: another file has key id %d", ErrBad, e.Name(), kid)
			}
			tickets = append(tickets, file{e.Name(), made, uint8(kid)})
		}
		if m := passFile.FindStringSubmatch(e.Name()); m != nil {
			made, err := time.Parse(madeLayout, m[1])
			if err != nil {
				return nil, nil, fmt.Errorf("%w: %s: want pass-<time>.pem", ErrBad, e.Name())
			}
			passes = append(passes, file{name: e.Name(), made: made})
		}
	}
	older := func(a, b file) int {
		if c := a.made.Compare(b.made); c != 0 {
			return c
		}
		return strings.Compare(a.name, b.name)
	}
	slices.SortFunc(tickets, older)
	slices.SortFunc(passes, older)
	return tickets, passes, nil
}

// signing is the index of the newest file that has been published long enough, or of the oldest.
func signing(files []file, now time.Time) int {
	for i := len(files) - 1; i > 0; i-- {
		if !files[i].made.Add(pass.PublishLead).After(now) {
			return i
		}
	}
	return 0
}

func passName(now time.Time) string { return "pass-" + now.UTC().Format(madeLayout) + ".pem" }

func addTicket(dir string, have []file, now time.Time) error {
	for kid := 1; kid <= 255; kid++ {
		if slices.ContainsFunc(have, func(f file) bool { return int(f.kid) == kid }) {
			continue
		}
		return create(filepath.Join(dir, fmt.Sprintf("ticket-%d-%s.key", kid, now.UTC().Format(madeLayout))), newSecret)
	}
	return ErrFull
}

func addEd25519(dir, name string) error {
	return create(filepath.Join(dir, name), func() ([]byte, error) {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			return nil, err
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
	})
}

func newSecret() ([]byte, error) {
	secret := make([]byte, 32)
	rand.Read(secret)
	return []byte(hex.EncodeToString(secret) + "\n"), nil
}

// create writes a key file that is not there yet, whole or not at all: two processes that start together end up with one key.
func create(path string, content func() ([]byte, error)) error {
	if _, err := os.Lstat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	b, err := content()
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(b)
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func checkMode(path string, most fs.FileMode) error {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", ErrMissing, filepath.Base(path))
	}
	if err != nil {
		return err
	}
	if st.Mode().Perm()&^most != 0 {
		return fmt.Errorf("%w: %s has mode %04o, want at most %04o", ErrOpen, filepath.Base(path), st.Mode().Perm(), most)
	}
	return nil
}

func read(path string) ([]byte, error) {
	if err := checkMode(path, 0o600); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

func readSecret(path string) ([]byte, error) {
	b, err := read(path)
	if err != nil {
		return nil, err
	}
	secret, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(secret) != 32 {
		return nil, fmt.Errorf("%w: %s: want 64 hexadecimal digits", ErrBad, filepath.Base(path))
	}
	return secret, nil
}

func readEd25519(path string) (ed25519.PrivateKey, error) {
	b, err := read(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%w: %s: want one PEM block PRIVATE KEY", ErrBad, filepath.Base(path))
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrBad, filepath.Base(path), err)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: %s: want an Ed25519 key", ErrBad, filepath.Base(path))
	}
	return private, nil
}
