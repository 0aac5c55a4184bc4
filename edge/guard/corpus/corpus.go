// Package corpus reads guard's cases and tries them on a running server.
//
// A case is a file: lines "key: value" that say what must happen, then "bytes:", then what the client sends. Line ends of the
// file mean nothing; \r, \n, \t, \\ and \xHH stand for bytes, and a line "*N text" for N times the text. Keys:
//
//	verdict  accept, or refuse STATUS REASON
//	after    how many requests before the refused one are answered
//	count    how many requests are answered in all, default 1
//	body     what an origin reads as body
//	target   what an origin sees as target
//	match    what routes see as path
//	lacks    fields that must not reach an origin, comma-separated
//	keeps    fields that must reach an origin, comma-separated
//	local    yes: answered by the edge itself
package corpus

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Case is one case.
type Case struct {
	Name   string
	Refuse bool
	Status int    // with Refuse
	Reason string // with Refuse
	After  int
	Count  int
	Body   string
	Target string
	Match  string
	Lacks  []string
	Keeps  []string
	Local  bool
	Bytes  []byte
}

// Load reads all cases of a directory, in the order of their names.
func Load(fsys fs.FS) ([]Case, error) {
	files, err := fs.Glob(fsys, "*.case")
	if err != nil {
		return nil, fmt.Errorf("list cases: %w", err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("there are no cases: %w", fs.ErrNotExist)
	}
	sort.Strings(files)
	cases := make([]Case, 0, len(files))
	for _, f := range files {
		raw, err := fs.ReadFile(fsys, f)
		if err != nil {
			return nil, fmt.Errorf("read case: %w", err)
		}
		c, err := parse(raw)
		if err != nil {
			return nil, fmt.Errorf("case %s: %w", f, err)
		}
		c.Name = strings.TrimSuffix(path.Base(f), ".case")
		cases = append(cases, c)
	}
	return cases, nil
}

func parse(raw []byte) (c Case, err error) {
	head, data, ok := strings.Cut(string(raw), "bytes:\n")
	if !ok {
		return c, fmt.Errorf("no bytes")
	}
	c.Count = 1
	for l := range strings.Lines(head) {
		key, value, ok := strings.Cut(strings.TrimSuffix(l, "\n"), ": ")
		if !ok {
			return c, fmt.Errorf("line %q: want key: value", l)
		}
		switch key {
		case "verdict":
			f := strings.Fields(value)
			switch {
			case len(f) == 1 && f[0] == "accept":
			case len(f) == 3 && f[0] == "refuse":
				c.Refuse, c.Reason = true, f[2]
				if c.Status, err = strconv.Atoi(f[1]); err != nil {
					return c, fmt.Errorf("verdict: %w", err)
				}
			default:
				return c, fmt.Errorf("verdict %q", value)
			}
		case "after":
			c.After, err = strconv.Atoi(value)
		case "count":
			c.Count, err = strconv.Atoi(value)
		case "body":
			c.Body = value
		case "target":
			c.Target = value
		case "match":
			var b []byte
			b, err = unescape(value)
			c.Match = string(b)
		case "lacks":
			c.Lacks = strings.Split(value, ", ")
		case "keeps":
			c.Keeps = strings.Split(value, ", ")
		case "local":
			c.Local = value == "yes"
		default:
			return c, fmt.Errorf("unknown key %q", key)
		}
		if err != nil {
			return c, fmt.Errorf("%s: %w", key, err)
		}
	}
	for l := range strings.Lines(data) {
		l = strings.TrimSuffix(l, "\n")
		n := 1
		if rest, ok := strings.CutPrefix(l, "*"); ok {
			count, text, _ := strings.Cut(rest, " ")
			if n, err = strconv.Atoi(count); err != nil {
				return c, fmt.Errorf("repeat: %w", err)
			}
			l = text
		}
		b, err := unescape(l)
		if err != nil {
			return c, err
		}
		c.Bytes = append(c.Bytes, bytes.Repeat(b, n)...)
	}
	return c, nil
}

func unescape(s string) ([]byte, error) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out = append(out, s[i])
			continue
		}
		if i++; i == len(s) {
			return nil, fmt.Errorf("%q ends in a backslash", s)
		}
		switch s[i] {
		case 'r':
			out = append(out, '\r')
		case 'n':
			out = append(out, '\n')
		case 't':
			out = append(out, '\t')
		case '\\':
			out = append(out, '\\')
		case 'x':
			if i+2 >= len(s) {
				return nil, fmt.Errorf("%q ends in a short escape", s)
			}
			v, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return nil, fmt.Errorf("escape: %w", err)
			}
			out = append(out, byte(v))
			i += 2
		default:
			return nil, fmt.Errorf("unknown escape \\%c", s[i])
		}
	}
	return out, nil
}

// Try sends the case to a server and says what was wrong with the answer; nil means that the verdict was met.
func Try(ctx context.Context, addr string, c Case) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = conn.Write(c.Bytes) // a server that has heard enough may close in the middle
	}()
	defer func() { <-sent }()

	br := bufio.NewReader(conn)
	want := c.Count
	if c.Refuse {
		want = c.After + 1
	}
	var method []string
	for _, r := range bytes.Split(c.Bytes, []byte("\r\n")) {
		if bytes.HasSuffix(r, []byte(" HTTP/1.1")) || bytes.HasSuffix(r, []byte(" HTTP/1.0")) {
			m, _, _ := strings.Cut(string(bytes.TrimLeft(r, "\r\n")), " ")
			method = append(method, m)
		}
	}
	for i := range want {
		var req *http.Request
		if i < len(method) {
			req = &http.Request{Method: method[i]}
		}
		if c.Refuse && i == want-1 {
			req = nil
		}
		resp, err := http.ReadResponse(br, req)
		for err == nil && resp.StatusCode == http.StatusContinue {
			resp, err = http.ReadResponse(br, req)
		}
		if err != nil {
			return fmt.Errorf("answer %d of %d: %w", i+1, want, err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return fmt.Errorf("answer %d of %d: body: %w", i+1, want, err)
		}
		refused := resp.StatusCode >= 400
		switch {
		case c.Refuse && i == want-1:
			if resp.StatusCode != c.Status {
				return fmt.Errorf("answered %d, want %d", resp.StatusCode, c.Status)
			}
			if r := resp.Header.Get("Stanchion-Reason"); r != "" && r != c.Reason {
				return fmt.Errorf("reason %q, want %q", r, c.Reason)
			}
			if _, err := br.ReadByte(); err == nil {
				return fmt.Errorf("the connection goes on after a refusal")
			} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
				return fmt.Errorf("the connection stays open after a refusal")
			}
		case refused:
			return fmt.Errorf("answer %d of %d: %d, want it accepted (reason %q)", i+1, want, resp.StatusCode, resp.Header.Get("Stanchion-Reason"))
		}
	}
	return nil
}
