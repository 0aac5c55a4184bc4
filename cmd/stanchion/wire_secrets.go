package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stanchion-queue/stanchion/pass/keyring"
)

// keysDir is where the installation's keys are, and whether the process may make them.
func (l *launch) keysDir() (dir string, create bool) {
	if l.cfg.Keys.Dir != "" {
		return l.cfg.Keys.Dir, false
	}
	return filepath.Join(l.cfg.DataDir, "keys"), true
}

// keys loads the key ring. A replaced pass key verifies for as long as any room's longest stay and outage bound.
func (l *launch) keys() (*keyring.Ring, error) {
	dir, create := l.keysDir()
	var keep time.Duration
	for _, r := range l.cfg.Rooms {
		keep = max(keep, time.Duration(r.StayMaxS+r.OutageBoundS)*time.Second)
	}
	ring, err := keyring.Load(dir, keyring.Options{Now: time.Now(), Keep: keep, Create: create})
	if err != nil {
		return nil, fmt.Errorf("load keys (keys.dir): %w", err)
	}
	return ring, nil
}

// secretBytes is the length of the secrets below.
const secretBytes = 32

// secret reads the named secret beside the keys. It is made at the first start where the process may make keys.
func (l *launch) secret(name string) ([]byte, error) {
	dir, create := l.keysDir()
	return loadSecret(dir, name, create)
}

// loadSecret reads a secret: 64 hexadecimal digits, mode 0600. With create it is made when it is not there.
func loadSecret(dir, name string, create bool) ([]byte, error) {
	path := filepath.Join(dir, name+".key")
	text, err := readSecret(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return text, err
	}
	if !create {
		return nil, fmt.Errorf("%w; make it with: stanchion keys init %s", err, dir)
	}
	raw := make([]byte, secretBytes)
	_, _ = rand.Read(raw) // never fails
	// Written whole beside its place and then linked there, so that two processes that start together agree on one.
	tmp, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("make secret %s: %w", path, err)
	}
	defer os.Remove(tmp.Name())
	if _, err := fmt.Fprintln(tmp, hex.EncodeToString(raw)); err != nil {
		return nil, errors.Join(fmt.Errorf("make secret %s: %w", path, err), tmp.Close())
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return nil, fmt.Errorf("make secret %s: %w", path, err)
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make secret %s: %w", path, err)
	}
	return readSecret(path)
}

func readSecret(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("read secret: %s may be read by others (mode %v); run chmod 600 on it", path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	raw, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(raw) < secretBytes {
		return nil, fmt.Errorf("read secret: %s does not hold %d hexadecimal digits", path, 2*secretBytes)
	}
	return raw, nil
}

// fileSecret reads a secret that the operator keeps in a file of their own; path "" gives the installation's named one.
func (l *launch) fileSecret(path, name string) (string, error) {
	if path == "" {
		raw, err := l.secret(name)
		return hex.EncodeToString(raw), err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	s := strings.TrimSpace(string(text))
	if s == "" {
		return "", fmt.Errorf("read secret: %s is empty", path)
	}
	return s, nil
}

// keysEvery is how often the key directory is read again: a new key must be known everywhere well before it signs.
const keysEvery = time.Minute

// followKeys reads the key directory again and again, so that a rotated key is published, and signs, without a restart. A directory
// that cannot be read leaves the keys as they are.
func (p *plant) followKeys(ctx context.Context, take func(*keyring.Ring) error) error {
	tick := time.NewTicker(keysEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		ring, err := p.keys()
		if err == nil {
			err = take(ring)
		}
		if err != nil {
			p.log.Error("keys not read again; the old ones stay in force", "err", err)
		}
	}
}
