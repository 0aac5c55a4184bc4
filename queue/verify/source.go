package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	maxRecordBytes = 8 << 20
	maxChunkBytes  = 8 << 10
)

// Open finds a published line: at the base URL of its line (…/rooms/{room}/lines/{line}), in a directory that mirrors it (a file
// `record`, files `ledger/{lane}/{chunk}`), or in a single file with the record alone. client may be nil.
func Open(where string, client *http.Client) (Source, error) {
	if strings.HasPrefix(where, "http://") || strings.HasPrefix(where, "https://") {
		if _, err := url.Parse(where); err != nil {
			return nil, fmt.Errorf("open published line: %w", err)
		}
		if client == nil {
			client = &http.Client{Timeout: 15 * time.Second}
		}
		return &site{base: strings.TrimSuffix(strings.TrimRight(where, "/"), "/record"), client: client}, nil
	}
	info, err := os.Stat(where)
	if err != nil {
		return nil, fmt.Errorf("open published line: %w", err)
	}
	if info.IsDir() {
		return folder{where}, nil
	}
	return file{where}, nil
}

// site is a line as an edge publishes it.
type site struct {
	base   string
	client *http.Client
}

func (s *site) Record(ctx context.Context) ([]byte, error) {
	return s.get(ctx, s.base+"/record", maxRecordBytes)
}

func (s *site) Chunk(ctx context.Context, lane int, chunk uint32) ([]byte, error) {
	return s.get(ctx, fmt.Sprintf("%s/ledger/%d/%d", s.base, lane, chunk), maxChunkBytes)
}

func (s *site) get(ctx context.Context, url string, most int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", url, res.Status)
	}
	return bounded(res.Body, most, url)
}

// folder mirrors a line's URLs as files.
type folder struct{ dir string }

func (f folder) Record(context.Context) ([]byte, error) {
	return readFile(filepath.Join(f.dir, "record"), maxRecordBytes)
}

func (f folder) Chunk(_ context.Context, lane int, chunk uint32) ([]byte, error) {
	if _, err := os.Stat(filepath.Join(f.dir, "ledger")); errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoLedger
	}
	return readFile(filepath.Join(f.dir, "ledger", strconv.Itoa(lane), strconv.FormatUint(uint64(chunk), 10)), maxChunkBytes)
}

// file is a record without a ledger.
type file struct{ path string }

func (f file) Record(context.Context) ([]byte, error) { return readFile(f.path, maxRecordBytes) }

func (f file) Chunk(context.Context, int, uint32) ([]byte, error) { return nil, ErrNoLedger }

func readFile(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return bounded(f, most, path)
}

func bounded(r io.Reader, most int64, what string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%s is larger than %d bytes", what, most)
	}
	return b, nil
}
