package guard

// Method is one of the methods the edge serves.
type Method uint8

// The methods.
const (
	MethodNone Method = iota
	GET
	HEAD
	POST
	PUT
	PATCH
	DELETE
	OPTIONS
)

var methodNames = [...]string{"", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

// String is the method as on the wire.
func (m Method) String() string { return methodNames[m] }

// ParseMethod is the method of that name, or MethodNone.
func ParseMethod(s string) Method {
	for i, n := range methodNames {
		if n == s {
			return Method(i)
		}
	}
	return MethodNone
}

// Safe reports whether the method promises to change nothing.
func (m Method) Safe() bool { return m == GET || m == HEAD || m == OPTIONS }

// FieldID names the header fields that the edge itself looks at.
type FieldID uint8

// The known fields. FieldOther is everything else.
const (
	FieldOther FieldID = iota
	FieldHost
	FieldConnection
	FieldContentLength
	FieldTransferEncoding
	FieldExpect
	FieldUpgrade
	FieldTrailer
	FieldTE
	FieldKeepAlive
	FieldProxyConnection
	FieldProxyAuthorization
	FieldHTTP2Settings
	FieldCookie
	FieldAuthorization
	FieldAccept
	FieldAcceptLanguage
	FieldSecFetchMode
	FieldSecFetchSite
	FieldSecFetchDest
	FieldSecPurpose
	FieldPurpose
	FieldOrigin
	FieldReferer
	FieldUserAgent
	FieldForwarded
	FieldXForwardedFor
	FieldXForwardedProto
	FieldXForwardedHost
	FieldXForwarded // any other X-Forwarded-…
	FieldXRealIP
	FieldXRequestID
	FieldXRequestedWith
	FieldTraceparent
	FieldTracestate
	FieldContentType
	FieldIdempotencyKey
	FieldIfNoneMatch
	FieldStanchionPass
	FieldStanchion // any other Stanchion-…
)

var fieldIDs = map[string]FieldID{
	"host": FieldHost, "connection": FieldConnection, "content-length": FieldContentLength,
	"transfer-encoding": FieldTransferEncoding, "expect": FieldExpect, "upgrade": FieldUpgrade, "trailer": FieldTrailer,
	"te": FieldTE, "keep-alive": FieldKeepAlive, "proxy-connection": FieldProxyConnection,
	"proxy-authorization": FieldProxyAuthorization, "http2-settings": FieldHTTP2Settings, "cookie": FieldCookie,
	"authorization": FieldAuthorization, "accept": FieldAccept, "accept-language": FieldAcceptLanguage,
	"sec-fetch-mode": FieldSecFetchMode, "sec-fetch-site": FieldSecFetchSite, "sec-fetch-dest": FieldSecFetchDest,
	"sec-purpose": FieldSecPurpose, "purpose": FieldPurpose, "origin": FieldOrigin, "referer": FieldReferer,
	"user-agent": FieldUserAgent, "forwarded": FieldForwarded, "x-forwarded-for": FieldXForwardedFor,
	"x-forwarded-proto": FieldXForwardedProto, "x-forwarded-host": FieldXForwardedHost, "x-real-ip": FieldXRealIP,
	"x-request-id": FieldXRequestID, "x-requested-with": FieldXRequestedWith, "traceparent": FieldTraceparent,
	"tracestate": FieldTracestate, "content-type": FieldContentType, "idempotency-key": FieldIdempotencyKey,
	"if-none-match": FieldIfNoneMatch, "stanchion-pass": FieldStanchionPass,
}

const longestKnownField = 24

// knownByLength are the known fields by the length of their names: most names differ from all candidates in their first byte.
var knownByLength = func() (t [longestKnownField + 1][]knownField) {
	for name, id := range fieldIDs {
		t[len(name)] = append(t[len(name)], knownField{name, id})
	}
	return t
}()

type knownField struct {
	name string
	id   FieldID
}

// identify finds a field by its name in any case, without allocating.
func identify(name []byte) FieldID {
	if len(name) <= longestKnownField {
		for _, k := range knownByLength[len(name)] {
			if lower(name[0]) == k.name[0] && equalFold(name, k.name) {
				return k.id
			}
		}
	}
	switch {
	case hasPrefixFold(name, "x-forwarded-"):
		return FieldXForwarded
	case hasPrefixFold(name, "stanchion-"):
		return FieldStanchion
	}
	return FieldOther
}

// Field is one header line; Value is without surrounding white space.
type Field struct {
	ID    FieldID
	Drop  bool // hop-by-hop: belongs to this connection alone
	Name  []byte
	Value []byte
}

// Request is one request head as Guard understood it. All slices point into the connection's buffer and are valid until the
// next request is read from the connection.
type Request struct {
	Method Method
	HTTP10 bool
	// Close says that the connection ends after this request, by the client's wish or by its version.
	Close bool

	// Target is the canonical origin-form target (path and query) that is forwarded; "*" for OPTIONS *.
	Target []byte
	// Path and Query are the parts of Target; Query is without the question mark.
	Path, Query []byte
	HasQuery    bool
	// Match is what routes look at: Path with escapes decoded (but %2F kept) and runs of slashes merged, since that is what
	// most origins serve.
	Match []byte
	// Alt is a second way to read the path (escaped slashes decoded, path parameters removed), nil when there is none. A
	// request whose Match and Alt lead to different routes must be refused with ErrTargetAmbiguous.
	Alt []byte

	// Host is the Host field as sent, port included; Hostname is lower case without port.
	Host, Hostname []byte

	Fields []Field

	// Length of the body: 0 none, -1 chunked.
	Length int64
	// Expect says that the client waits for 100 Continue before it sends the body.
	Expect bool
	// WebSocket says that the client asks to upgrade to a WebSocket.
	WebSocket bool

	scratch []byte // backs Match, Alt and Hostname when they differ from the wire
}

// Get is the value of the first field with that id, nil when there is none.
func (r *Request) Get(id FieldID) []byte {
	for i := range r.Fields {
		if r.Fields[i].ID == id {
			return r.Fields[i].Value
		}
	}
	return nil
}

// Find is the value of the first field of that name, in any case; nil when there is none.
func (r *Request) Find(name string) []byte {
	for i := range r.Fields {
		if equalFold(r.Fields[i].Name, name) {
			return r.Fields[i].Value
		}
	}
	return nil
}

func (r *Request) reset() {
	fields, scratch := r.Fields[:0], r.scratch[:0]
	*r = Request{Fields: fields, scratch: scratch}
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range b {
		if lower(b[i]) != lower(s[i]) {
			return false
		}
	}
	return true
}

func hasPrefixFold(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && equalFold(b[:len(prefix)], prefix)
}
