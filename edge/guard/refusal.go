package guard

import "strconv"

// Refusal is why a request was not let through. Refusals are constants of this package; compare by pointer.
type Refusal struct {
	Status int    // HTTP status of the answer
	Reason string // stable word, used in metrics, logs and the Stanchion-Reason field
	Detail string // one sentence for the client's developer
}

// Error implements error.
func (r *Refusal) Error() string { return "request refused: " + r.Reason + ": " + r.Detail }

// The refusals. The connection is closed after each of them.
var (
	ErrNotHTTP         = &Refusal{400, "not-http", "The bytes are not an HTTP/1.1 request."}
	ErrRequestLine     = &Refusal{400, "request-line", "The request line must be method, target and version, separated by one space each."}
	ErrMethod          = &Refusal{501, "method-unknown", "The method is not supported."}
	ErrMethodForbidden = &Refusal{405, "method-forbidden", "CONNECT and TRACE are not served."}
	ErrVersion         = &Refusal{505, "version", "Only HTTP/1.1 and HTTP/1.0 are spoken here."}
	ErrTarget          = &Refusal{400, "target", "The request target is malformed."}
	ErrTargetChar      = &Refusal{400, "target-character", "The request target holds a character that is not allowed there."}
	ErrTargetEscape    = &Refusal{400, "target-escape", "The path holds a percent escape that is broken or not allowed."}
	ErrTargetAmbiguous = &Refusal{400, "target-ambiguous", "The path could be read in two ways."}
	ErrTargetTooLong   = &Refusal{414, "target-too-long", "The request target is too long."}
	ErrAuthority       = &Refusal{400, "authority-mismatch", "The target's authority and Host differ."}
	ErrScheme          = &Refusal{400, "scheme", "Only http and https targets are served."}
	ErrHeadTooLarge    = &Refusal{431, "head-too-large", "The request line and header fields are too large together."}
	ErrTooManyFields   = &Refusal{431, "too-many-fields", "There are too many header fields."}
	ErrBareLF          = &Refusal{400, "bare-lf", "A line ends in a bare line feed."}
	ErrBareCR          = &Refusal{400, "bare-cr", "A carriage return stands without its line feed."}
	ErrFold            = &Refusal{400, "folded-field", "Header fields must not be folded over lines."}
	ErrFieldName       = &Refusal{400, "field-name", "A header field's name is malformed."}
	ErrUnderscore      = &Refusal{400, "field-underscore", "Header field names with an underscore are not accepted."}
	ErrFieldValue      = &Refusal{400, "field-value", "A header field's value holds a control character."}
	ErrHost            = &Refusal{400, "host", "There must be exactly one well-formed Host field."}
	ErrContentLength   = &Refusal{400, "content-length", "Content-Length must be one plain decimal number."}
	ErrTransferCoding  = &Refusal{400, "transfer-encoding", "The only transfer encoding accepted is one single chunked, in HTTP/1.1."}
	ErrTwoFramings     = &Refusal{400, "two-framings", "Content-Length and Transfer-Encoding must not be sent together."}
	ErrBodyNotAllowed  = &Refusal{400, "body-not-allowed", "GET and HEAD requests must not have a body."}
	ErrBodyTooLarge    = &Refusal{413, "body-too-large", "The request body is too large."}
	ErrExpect          = &Refusal{417, "expectation", "The only expectation met is 100-continue, on a request with a body."}
	ErrUpgrade         = &Refusal{400, "upgrade", "This upgrade is not offered."}
	ErrChunkSize       = &Refusal{400, "chunk-size", "A chunk's size line is malformed."}
	ErrChunkExtension  = &Refusal{400, "chunk-extension", "Chunk extensions are malformed or too long."}
	ErrChunkEnd        = &Refusal{400, "chunk-end", "A chunk's data does not end where its size says."}
	ErrTrailer         = &Refusal{400, "trailer", "The trailer section is malformed, too large, or holds a field that is not allowed there."}
	ErrBodyTruncated   = &Refusal{400, "body-truncated", "The connection ended inside the body."}
	ErrHeadTimeout     = &Refusal{408, "head-timeout", "The header section did not arrive in time."}
	ErrBodyTimeout     = &Refusal{408, "body-timeout", "The body did not arrive in time."}
)

// refusals lists them for prepared answers and metrics.
var refusals = []*Refusal{
	ErrNotHTTP, ErrRequestLine, ErrMethod, ErrMethodForbidden, ErrVersion, ErrTarget, ErrTargetChar, ErrTargetEscape,
	ErrTargetAmbiguous, ErrTargetTooLong, ErrAuthority, ErrScheme, ErrHeadTooLarge, ErrTooManyFields, ErrBareLF, ErrBareCR,
	ErrFold, ErrFieldName, ErrUnderscore, ErrFieldValue, ErrHost, ErrContentLength, ErrTransferCoding, ErrTwoFramings,
	ErrBodyNotAllowed, ErrBodyTooLarge, ErrExpect, ErrUpgrade, ErrChunkSize, ErrChunkExtension, ErrChunkEnd, ErrTrailer,
	ErrBodyTruncated, ErrHeadTimeout, ErrBodyTimeout,
}

// Refusals returns all refusals there are.
func Refusals() []*Refusal { return append([]*Refusal(nil), refusals...) }

var statusText = map[int]string{
	400: "Bad Request", 405: "Method Not Allowed", 408: "Request Timeout", 413: "Content Too Large", 414: "URI Too Long",
	417: "Expectation Failed", 431: "Request Header Fields Too Large", 501: "Not Implemented", 505: "HTTP Version Not Supported",
}

// answers are the complete responses to refused requests, by refusal.
var answers = func() map[*Refusal][]byte {
	m := make(map[*Refusal][]byte, len(refusals))
	for _, r := range refusals {
		m[r] = r.answer()
	}
	return m
}()

func (r *Refusal) answer() []byte {
	title := statusText[r.Status]
	body := `{"type":"/problems/bad-request","title":` + strconv.Quote(title) + `,"status":` + strconv.Itoa(r.Status) +
		`,"detail":` + strconv.Quote(r.Detail) + `,"reason":` + strconv.Quote(r.Reason) + "}\n"
	head := "HTTP/1.1 " + strconv.Itoa(r.Status) + " " + title + "\r\n" +
		"Content-Type: application/problem+json\r\n" +
		"Content-Length: " + strconv.Itoa(len(body)) + "\r\n" +
		"Cache-Control: no-store\r\n" +
		"X-Content-Type-Options: nosniff\r\n" +
		"Stanchion-Decision: refused\r\n" +
		"Stanchion-Reason: " + r.Reason + "\r\n"
	if r.Status == 405 {
		head += "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
	}
	return []byte(head + "Connection: close\r\n\r\n" + body)
}
