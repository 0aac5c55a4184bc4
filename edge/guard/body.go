package guard

import (
	"bytes"
	"io"
)

// Bounds of what chunked framing may add to the data.
const (
	maxChunkLine     = 256  // a size line, extension included
	maxExtensions    = 1024 // all extensions of one body
	maxTrailerBytes  = 4096
	maxTrailerFields = 50
)

// source is where a body's bytes come from: the buffered rest of the connection.
type source interface {
	// peek returns at least one buffered byte, reading more when there is none, or when more is asked for.
	peek(more bool) ([]byte, *Refusal)
	// take uses up n bytes of those last peeked.
	take(n int)
	// read copies decoded body bytes to p, past the buffer when that is empty.
	read(p []byte) (int, *Refusal)
}

// framing is the state of one body. It has no I/O of its own.
type framing struct {
	length   int64 // as Request.Length
	left     int64 // bytes left of the body (fixed) or of the chunk
	got      int64 // decoded bytes so far
	limit    int64
	ext      int
	inChunk  bool
	finished bool
	failed   *Refusal
}

func (f *framing) start(length, limit int64) {
	*f = framing{length: length, limit: limit, left: max(length, 0), finished: length == 0}
}

// read is io.Reader over a source. Errors are io.EOF or a *Refusal, which repeats.
func (f *framing) read(src source, p []byte) (n int, err error) {
	if f.failed != nil {
		return 0, f.failed
	}
	if f.finished {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	if f.length < 0 && !f.inChunk {
		if ref := f.nextChunk(src); ref != nil {
			return 0, f.fail(ref)
		}
		if f.finished {
			return 0, io.EOF
		}
	}
	if int64(len(p)) > f.left {
		p = p[:f.left]
	}
	n, ref := src.read(p)
	if ref != nil {
		return 0, f.fail(ref)
	}
	f.left -= int64(n)
	f.got += int64(n)
	if f.left == 0 {
		if f.length > 0 {
			f.finished = true
		} else if ref := f.endChunk(src); ref != nil {
			return n, f.fail(ref)
		}
	}
	return n, nil
}

func (f *framing) fail(ref *Refusal) *Refusal {
	f.failed = ref
	return ref
}

// nextChunk reads a size line and, after the last chunk, the trailer section.
func (f *framing) nextChunk(src source) *Refusal {
	line, ref := takeLine(src, maxChunkLine, ErrChunkSize)
	if ref != nil {
		return ref
	}
	size, digits := int64(0), 0
	for digits < len(line) && class[line[digits]]&isHex != 0 {
		if digits == 15 { // 60 bits are enough for everybody and cannot overflow
			return ErrChunkSize
		}
		size = size<<4 | int64(unhex(line[digits]))
		digits++
	}
	if digits == 0 {
		return ErrChunkSize
	}
	if rest := line[digits:]; len(rest) > 0 {
		if rest[0] != ';' {
			return ErrChunkSize
		}
		if f.ext += len(rest); f.ext > maxExtensions || !validExtensions(rest) {
			return ErrChunkExtension
		}
	}
	if size == 0 {
		return f.trailers(src)
	}
	if size > f.limit-f.got {
		return ErrBodyTooLarge
	}
	f.left, f.inChunk = size, true
	return nil
}

// validExtensions checks `;name`, `;name=token` and `;name="text"`, without white space.
func validExtensions(b []byte) bool {
	for len(b) > 0 {
		if b[0] != ';' {
			return false
		}
		b = b[1:]
		n := tokenLen(b)
		if n == 0 {
			return false
		}
		b = b[n:]
		if len(b) == 0 || b[0] == ';' {
			continue
		}
		if b[0] != '=' {
			return false
		}
		b = b[1:]
		if len(b) > 0 && b[0] == '"' {
			end := bytes.IndexByte(b[1:], '"')
			if end < 0 {
				return false
			}
			for _, c := range b[1 : 1+end] {
				if class[c]&isValue == 0 || c == '\\' {
					return false
				}
			}
			b = b[end+2:]
			continue
		}
		if n = tokenLen(b); n == 0 {
			return false
		}
		b = b[n:]
	}
	return true
}

func tokenLen(b []byte) int {
	n := 0
	for n < len(b) && class[b[n]]&isToken != 0 {
		n++
	}
	return n
}

// endChunk reads the line end after a chunk's data.
func (f *framing) endChunk(src source) *Refusal {
	f.inChunk = false
	line, ref := takeLine(src, 0, ErrChunkEnd)
	if ref != nil {
		return ref
	}
	if len(line) != 0 {
		return ErrChunkEnd
	}
	return nil
}

// trailers reads the trailer section and drops it: a trailer field that a later program takes for a header field could
// carry what was removed from the head. Fields that must never be trailers refuse the request.
func (f *framing) trailers(src source) *Refusal {
	total := 0
	for n := 0; ; n++ {
		line, ref := takeLine(src, maxTrailerBytes-total, ErrTrailer)
		if ref != nil {
			return ref
		}
		if len(line) == 0 {
			f.finished = true
			return nil
		}
		if total += len(line); n >= maxTrailerFields {
			return ErrTrailer
		}
		field, ref := parseField(line)
		if ref != nil {
			return ErrTrailer
		}
		switch field.ID {
		case FieldHost, FieldContentLength, FieldTransferEncoding, FieldConnection, FieldTrailer, FieldTE, FieldExpect, FieldUpgrade,
			FieldAuthorization, FieldCookie, FieldContentType:
			return ErrTrailer
		}
	}
}

// takeLine takes one line that ends in CR LF and has at most limit bytes, and returns it without its end. The line is valid
// until the next use of src.
func takeLine(src source, limit int, long *Refusal) ([]byte, *Refusal) {
	more := false
	for {
		b, ref := src.peek(more)
		if ref != nil {
			return nil, ref
		}
		i := bytes.IndexByte(b, '\n')
		// Faults are looked for in their order on the wire, so that the reason does not depend on how the bytes arrive.
		if j := bytes.IndexByte(b, '\r'); j >= 0 && j <= limit && j+1 < len(b) && b[j+1] != '\n' {
			return nil, ErrBareCR
		}
		if i > limit+1 || i < 0 && len(b) > limit+1 {
			return nil, long
		}
		if i < 0 {
			more = true
			continue
		}
		if i == 0 || b[i-1] != '\r' {
			return nil, ErrBareLF
		}
		src.take(i + 1)
		return b[:i-1], nil
	}
}
