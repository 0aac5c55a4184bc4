package guard

import "bytes"

// target checks the request target and fills in the canonical form and the forms that routes look at.
func (r *Request) target(t []byte) *Refusal {
	if len(t) == 1 && t[0] == '*' {
		if r.Method != OPTIONS {
			return ErrTarget
		}
		r.Target, r.Path, r.Match = t, t, t
		return nil
	}
	if t[0] != '/' {
		var ref *Refusal
		if t, ref = r.absoluteForm(t); ref != nil {
			return ref
		}
	}

	path := t
	if q := bytes.IndexByte(t, '?'); q >= 0 {
		path, r.Query, r.HasQuery = t[:q], t[q+1:], true
		for _, c := range r.Query {
			if class[c]&isQuery == 0 {
				return ErrTargetChar
			}
		}
	}

	plain := true // nothing to decode, resolve or merge
	prevSlash := false
	for _, c := range path {
		k := class[c]
		if k&isPath == 0 {
			return ErrTargetChar
		}
		if k&isPlain != 0 {
			prevSlash = false
			continue
		}
		if c == '/' && !prevSlash {
			prevSlash = true
			continue
		}
		// A dot is harmless unless it starts a segment.
		if c == '.' && !prevSlash {
			continue
		}
		plain = false
		prevSlash = c == '/'
	}
	r.Path, r.Match, r.Target = path, path, t
	if plain {
		return nil
	}
	return r.unusualPath()
}

// absoluteForm turns "http://host/path" into its path when the authority is that of the Host field.
func (r *Request) absoluteForm(t []byte) ([]byte, *Refusal) {
	scheme, rest, ok := bytes.Cut(t, []byte("://"))
	if !ok {
		return nil, ErrTarget
	}
	if !equalFold(scheme, "http") && !equalFold(scheme, "https") {
		return nil, ErrScheme
	}
	end := bytes.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	if !bytes.EqualFold(rest[:end], r.Host) {
		return nil, ErrAuthority
	}
	rest = rest[end:]
	if len(rest) == 0 || rest[0] != '/' {
		// An empty path is written as a slash; the byte before it belongs to the authority and is free to be used.
		start := len(t) - len(rest) - 1
		t[start] = '/'
		rest = t[start:]
	}
	return rest, nil
}

// unusualPath handles paths with escapes, dots at the start of a segment, empty segments or parameters.
func (r *Request) unusualPath() *Refusal {
	path := r.Path
	escapedSlash, emptySegment, params := false, false, false
	for i := 0; i < len(path); i++ {
		switch path[i] {
		case '%':
			c, ok := unescape(path[i:])
			if !ok || c == 0 || c == '\\' {
				return ErrTargetEscape
			}
			if c == '/' {
				escapedSlash = true
			}
			i += 2
		case ';':
			params = true
		case '/':
			if i > 0 && path[i-1] == '/' {
				emptySegment = true
			}
		}
	}

	resolved, had, ref := resolveDots(path)
	if ref != nil {
		return ref
	}
	if had {
		// Programs differ in what ".." takes away when a segment is empty, has parameters or holds an escaped slash.
		if emptySegment || escapedSlash || params {
			return ErrTargetAmbiguous
		}
		// The query follows the shorter path without a gap.
		if r.HasQuery {
			q := r.Query
			resolved = append(resolved, '?')
			n := len(resolved)
			resolved = append(resolved, q...)
			r.Target, r.Path, r.Query = resolved, resolved[:n-1:n-1], resolved[n:]
		} else {
			r.Target, r.Path = resolved, resolved
		}
		path = r.Path
	}

	r.Match = r.decoded(path, false)
	if escapedSlash || params {
		r.Alt = r.decoded(path, true)
		// Whoever decodes before resolving would see dots where we saw none.
		if hasDotSegment(r.Alt) {
			return ErrTargetAmbiguous
		}
	}
	return nil
}

// decoded is the path with escapes decoded and runs of slashes merged. Escaped slashes become %2F, or with alt a slash; alt
// also leaves path parameters out.
func (r *Request) decoded(path []byte, alt bool) []byte {
	start := len(r.scratch)
	out := r.scratch
	slash := func() {
		if len(out) == start || out[len(out)-1] != '/' {
			out = append(out, '/')
		}
	}
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '/':
			slash()
		case c == ';' && alt:
			for i+1 < len(path) && path[i+1] != '/' {
				i++
			}
		case c == '%':
			d, _ := unescape(path[i:])
			i += 2
			switch {
			case d == '/' && alt:
				slash()
			case d == '/':
				out = append(out, "%2F"...)
			default:
				out = append(out, d)
			}
		default:
			out = append(out, c)
		}
	}
	r.scratch = out
	return out[start:len(out):len(out)]
}

// resolveDots removes "." and ".." segments (their dots may be escaped) in place, as RFC 3986, 5.2.4. A dot segment with
// parameters is refused: some programs would resolve it.
func resolveDots(path []byte) (out []byte, had bool, ref *Refusal) {
	out = path[:0]
	for i := 0; i < len(path); {
		// path[i] is a slash; the segment follows.
		end := bytes.IndexByte(path[i+1:], '/')
		last := end < 0
		if last {
			end = len(path)
		} else {
			end += i + 1
		}
		seg := path[i+1 : end]
		switch dots, param := dotSegment(seg); {
		case param:
			return nil, false, ErrTargetAmbiguous
		case dots == 1:
			had = true
			if last {
				out = append(out, '/')
			}
		case dots == 2:
			had = true
			if at := bytes.LastIndexByte(out, '/'); at >= 0 {
				out = out[:at]
			}
			if last {
				out = append(out, '/')
			}
		default:
			out = append(out, '/')
			out = append(out, seg...)
		}
		i = end
	}
	if len(out) == 0 {
		out = append(out, '/')
	}
	return out, had, nil
}

// dotSegment counts the dots of a segment that is "." or ".." in any spelling; param says that parameters follow them.
func dotSegment(seg []byte) (dots int, param bool) {
	for len(seg) > 0 {
		switch {
		case seg[0] == '.':
			seg = seg[1:]
		case len(seg) >= 3 && seg[0] == '%' && seg[1] == '2' && lower(seg[2]) == 'e':
			seg = seg[3:]
		case seg[0] == ';' && (dots == 1 || dots == 2):
			return dots, true
		default:
			return 0, false
		}
		if dots++; dots > 2 {
			return 0, false
		}
	}
	return dots, false
}

func hasDotSegment(path []byte) bool {
	for len(path) > 0 {
		seg, rest, _ := bytes.Cut(path[1:], []byte("/"))
		if string(seg) == "." || string(seg) == ".." {
			return true
		}
		if len(rest) == 0 {
			return false
		}
		path = path[1+len(seg):]
	}
	return false
}

func unescape(b []byte) (byte, bool) {
	if len(b) < 3 || class[b[1]]&isHex == 0 || class[b[2]]&isHex == 0 {
		return 0, false
	}
	return unhex(b[1])<<4 | unhex(b[2]), true
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	default:
		return (c | 0x20) - 'a' + 10
	}
}
