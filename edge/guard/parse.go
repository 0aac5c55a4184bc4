package guard

import (
	"bytes"
)

// Limits bound a request's head and body.
type Limits struct {
	HeadBytes   int   // request line and fields
	Fields      int   // header lines
	TargetBytes int   // request target
	BodyBytes   int64 // request body, decoded
}

// Byte classes. A table keeps the hot loops to one load per byte.
const (
	isToken  = 1 << iota // field names, methods
	isValue              // field values
	isPath               // paths as sent
	isQuery              // queries as sent
	isHost               // host names, IPv4 addresses
	isHex                // hexadecimal digits
	isPlain              // path bytes that need no second look: nothing to decode, resolve or merge
	isDigits             // decimal digits
)

var class = func() (t [256]uint8) {
	for c := range 256 {
		b := byte(c)
		alnum := b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
		if alnum || bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), b) >= 0 {
			t[c] |= isToken
		}
		if b == '\t' || b >= 0x20 && b != 0x7f {
			t[c] |= isValue
		}
		if b > 0x20 && b < 0x7f && bytes.IndexByte([]byte("#\\\"<>?"), b) < 0 {
			t[c] |= isPath
		}
		if b > 0x20 && b < 0x7f && b != '#' {
			t[c] |= isQuery
		}
		if alnum || b == '-' || b == '.' || b == '_' || b == '~' {
			t[c] |= isHost
		}
		if b >= '0' && b <= '9' || b >= 'a' && b <= 'f' || b >= 'A' && b <= 'F' {
			t[c] |= isHex
		}
		if t[c]&isPath != 0 && b != '%' && b != '.' && b != ';' && b != '/' {
			t[c] |= isPlain
		}
		if b >= '0' && b <= '9' {
			t[c] |= isDigits
		}
	}
	return t
}()

// headEnd looks for the end of a head in buf from offset from on, where the bytes before from have been looked at. It returns
// the length of the head including its empty line, or 0 and where to continue. It refuses line ends other than CR LF as soon
// as they are seen, and bytes that can never become a request.
func headEnd(buf []byte, from int, lim *Limits) (end, next int, ref *Refusal) {
	if from == 0 && len(buf) > 0 && class[buf[0]]&isToken == 0 {
		if buf[0] == '\n' {
			return 0, 0, ErrBareLF
		}
		return 0, 0, ErrNotHTTP
	}
	for {
		i := bytes.IndexByte(buf[from:], '\n')
		if i < 0 {
			// The last byte may be a CR whose LF has not come.
			if len(buf) > lim.HeadBytes {
				return 0, 0, tooLong(buf, lim)
			}
			return 0, max(from, len(buf)-1), nil
		}
		at := from + i
		if at >= lim.HeadBytes {
			return 0, 0, tooLong(buf, lim)
		}
		if at == 0 || buf[at-1] != '\r' {
			return 0, 0, ErrBareLF
		}
		if at >= 3 && buf[at-2] == '\n' { // the line between is empty
			return at + 1, 0, nil
		}
		from = at + 1
	}
}

// tooLong tells a long target from many fields.
func tooLong(buf []byte, lim *Limits) *Refusal {
	if i := bytes.IndexByte(buf, '\n'); i < 0 || i > lim.TargetBytes {
		return ErrTargetTooLong
	}
	return ErrHeadTooLarge
}

// Parse reads one request head from the start of buf. It returns its length, or 0 when buf holds only a part of a head that may
// become valid. r's slices point into buf, which Parse may change (a target's dot segments are resolved in place).
func Parse(buf []byte, lim *Limits, r *Request) (n int, ref *Refusal) {
	end, _, ref := headEnd(buf, 0, lim)
	if ref != nil || end == 0 {
		return 0, ref
	}
	if ref := parseHead(buf[:end], lim, r); ref != nil {
		return 0, ref
	}
	return end, nil
}

// parseHead parses a complete head whose lines all end in CR LF.
func parseHead(head []byte, lim *Limits, r *Request) *Refusal {
	r.reset()
	i := bytes.IndexByte(head, '\n')
	rawTarget, ref := r.requestLine(head[:i-1], lim)
	if ref != nil {
		return ref
	}

	var (
		hosts, lengths, codings int
		upgrade                 bool // the Connection field names upgrade
		keepAlive               bool
	)
	rest := head[i+1 : len(head)-2]
	for len(rest) > 0 {
		i := bytes.IndexByte(rest, '\n')
		lineB := rest[:i-1]
		rest = rest[i+1:]
		if len(r.Fields) >= lim.Fields {
			return ErrTooManyFields
		}
		f, ref := parseField(lineB)
		if ref != nil {
			return ref
		}
		switch f.ID {
		case FieldHost:
			if hosts++; hosts > 1 {
				return ErrHost
			}
			if ref := r.host(f.Value); ref != nil {
				return ref
			}
		case FieldContentLength:
			if lengths++; lengths > 1 {
				return ErrContentLength
			}
			v := f.Value
			if len(v) == 0 || len(v) > 18 || len(v) > 1 && v[0] == '0' {
				return ErrContentLength
			}
			for _, c := range v {
				if class[c]&isDigits == 0 {
					return ErrContentLength
				}
				r.Length = r.Length*10 + int64(c-'0')
			}
			f.Drop = true // written anew from Length
		case FieldTransferEncoding:
			if codings++; codings > 1 || r.HTTP10 || !equalFold(f.Value, "chunked") {
				return ErrTransferCoding
			}
			f.Drop = true
		case FieldConnection:
			f.Drop = true
			for v := f.Value; len(v) > 0; {
				var opt []byte
				opt, v = nextListItem(v)
				switch {
				case equalFold(opt, "close"):
					r.Close = true
				case equalFold(opt, "keep-alive"):
					keepAlive = true
				case equalFold(opt, "upgrade"):
					upgrade = true
				}
			}
		case FieldExpect:
			if r.Expect || r.HTTP10 || !equalFold(f.Value, "100-continue") {
				return ErrExpect
			}
			r.Expect = true
			f.Drop = true
		case FieldUpgrade:
			for v := f.Value; len(v) > 0; {
				var proto []byte
				proto, v = nextListItem(v)
				if equalFold(proto, "websocket") {
					r.WebSocket = true
				}
				if hasPrefixFold(proto, "h2c") {
					return ErrUpgrade
				}
			}
			f.Drop = true
		case FieldHTTP2Settings:
			return ErrUpgrade
		case FieldTrailer, FieldTE, FieldKeepAlive, FieldProxyConnection, FieldProxyAuthorization:
			f.Drop = true
		}
		r.Fields = append(r.Fields, f)
	}

	if hosts != 1 {
		return ErrHost
	}
	if lengths > 0 && codings > 0 {
		return ErrTwoFramings
	}
	if codings > 0 {
		r.Length = -1
	}
	if r.Length != 0 && (r.Method == GET || r.Method == HEAD) {
		return ErrBodyNotAllowed
	}
	if r.Length > lim.BodyBytes {
		return ErrBodyTooLarge
	}
	if r.Expect && r.Length == 0 {
		return ErrExpect
	}
	if r.HTTP10 && !keepAlive {
		r.Close = true
	}
	r.WebSocket = r.WebSocket && upgrade && r.Method == GET && !r.HTTP10
	r.dropNominated()
	return r.target(rawTarget)
}

// requestLine checks method and version and returns the target as sent.
func (r *Request) requestLine(l []byte, lim *Limits) ([]byte, *Refusal) {
	sp := bytes.IndexByte(l, ' ')
	if sp <= 0 {
		return nil, ErrRequestLine
	}
	method := l[:sp]
	for _, c := range method {
		if class[c]&isToken == 0 {
			return nil, ErrRequestLine
		}
	}
	target := l[sp+1:]
	sp2 := bytes.IndexByte(target, ' ')
	if sp2 <= 0 {
		return nil, ErrRequestLine
	}
	version := target[sp2+1:]
	target = target[:sp2]
	switch string(version) {
	case "HTTP/1.1":
	case "HTTP/1.0":
		r.HTTP10 = true
	default:
		if len(version) == 8 && string(version[:5]) == "HTTP/" && class[version[5]]&isDigits != 0 && version[6] == '.' && class[version[7]]&isDigits != 0 {
			return nil, ErrVersion
		}
		return nil, ErrRequestLine
	}
	switch string(method) {
	case "GET":
		r.Method = GET
	case "HEAD":
		r.Method = HEAD
	case "POST":
		r.Method = POST
	case "PUT":
		r.Method = PUT
	case "PATCH":
		r.Method = PATCH
	case "DELETE":
		r.Method = DELETE
	case "OPTIONS":
		r.Method = OPTIONS
	case "CONNECT", "TRACE":
		return nil, ErrMethodForbidden
	default:
		return nil, ErrMethod
	}
	if len(target) > lim.TargetBytes {
		return nil, ErrTargetTooLong
	}
	return target, nil
}

// parseField splits and checks one header line without its line end.
func parseField(l []byte) (f Field, ref *Refusal) {
	if len(l) > 0 && (l[0] == ' ' || l[0] == '\t') {
		return f, ErrFold
	}
	colon := bytes.IndexByte(l, ':')
	if colon <= 0 {
		return f, ErrFieldName
	}
	name := l[:colon]
	for _, c := range name {
		if class[c]&isToken == 0 {
			return f, ErrFieldName
		}
		if c == '_' {
			return f, ErrUnderscore
		}
	}
	v := l[colon+1:]
	for len(v) > 0 && (v[0] == ' ' || v[0] == '\t') {
		v = v[1:]
	}
	for len(v) > 0 && (v[len(v)-1] == ' ' || v[len(v)-1] == '\t') {
		v = v[:len(v)-1]
	}
	for _, c := range v {
		if class[c]&isValue == 0 {
			if c == '\r' {
				return f, ErrBareCR
			}
			return f, ErrFieldValue
		}
	}
	return Field{ID: identify(name), Name: name, Value: v}, nil
}

// nextListItem cuts the first item off a comma-separated list.
func nextListItem(v []byte) (item, rest []byte) {
	item, rest, _ = bytes.Cut(v, []byte(","))
	return bytes.Trim(item, " \t"), rest
}

// dropNominated marks the fields that Connection names as hop-by-hop. Fields that carry identity, routing or framing are
// never removed on a client's word.
func (r *Request) dropNominated() {
	for i := range r.Fields {
		if r.Fields[i].ID != FieldConnection {
			continue
		}
		for v := r.Fields[i].Value; len(v) > 0; {
			var name []byte
			name, v = nextListItem(v)
			for j := range r.Fields {
				f := &r.Fields[j]
				if f.ID == FieldOther && len(f.Name) == len(name) && bytes.EqualFold(f.Name, name) && !hasPrefixFold(name, "content-") && !hasPrefixFold(name, "sec-") {
					f.Drop = true
				}
			}
		}
	}
}

// host checks a Host field: a name, an IPv4 address or a bracketed IPv6 address, with an optional port.
func (r *Request) host(v []byte) *Refusal {
	name, port, ok := splitHostPort(v)
	if !ok {
		return ErrHost
	}
	_ = port
	r.Host, r.Hostname = v, name
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			start := len(r.scratch)
			for _, c := range name {
				r.scratch = append(r.scratch, lower(c))
			}
			r.Hostname = r.scratch[start:len(r.scratch):len(r.scratch)]
			break
		}
	}
	return nil
}

func splitHostPort(v []byte) (name, port []byte, ok bool) {
	if len(v) == 0 || len(v) > 261 {
		return nil, nil, false
	}
	if v[0] == '[' {
		end := bytes.IndexByte(v, ']')
		if end < 3 {
			return nil, nil, false
		}
		for _, c := range v[1:end] {
			if class[c]&isHex == 0 && c != ':' && c != '.' {
				return nil, nil, false
			}
		}
		name, v = v[:end+1], v[end+1:]
	} else {
		end := bytes.IndexByte(v, ':')
		if end < 0 {
			end = len(v)
		}
		if end == 0 || end > 255 {
			return nil, nil, false
		}
		for _, c := range v[:end] {
			if class[c]&isHost == 0 {
				return nil, nil, false
			}
		}
		name, v = v[:end], v[end:]
	}
	if len(v) == 0 {
		return name, nil, true
	}
	if v[0] != ':' || len(v) < 2 || len(v) > 6 {
		return nil, nil, false
	}
	n := 0
	for _, c := range v[1:] {
		if class[c]&isDigits == 0 {
			return nil, nil, false
		}
		n = n*10 + int(c-'0')
	}
	return name, v[1:], n >= 1 && n <= 65535
}
