package localqueue

import (
	"encoding/binary"
	"errors"
	"math"
)

// The journal's and the snapshot's encoding: records of one op byte and fields. Numbers are varints, identities are raw bytes,
// texts carry their length. Nothing here depends on the machine.

var errTruncated = errors.New("record is truncated")

// encoder appends fields to a buffer.
type encoder struct{ buf []byte }

func (e *encoder) op(o op)          { e.buf = append(e.buf, byte(o)) }
func (e *encoder) u64(v uint64)     { e.buf = binary.AppendUvarint(e.buf, v) }
func (e *encoder) i64(v int64)      { e.buf = binary.AppendVarint(e.buf, v) }
func (e *encoder) f64(v float64)    { e.buf = binary.BigEndian.AppendUint64(e.buf, math.Float64bits(v)) }
func (e *encoder) raw(b []byte)     { e.buf = append(e.buf, b...) }
func (e *encoder) bytes(b []byte)   { e.u64(uint64(len(b))); e.raw(b) }
func (e *encoder) str(s string)     { e.u64(uint64(len(s))); e.buf = append(e.buf, s...) }
func (e *encoder) bool(b bool)      { e.buf = append(e.buf, boolByte(b)) }
func (e *encoder) u8(b uint8)       { e.buf = append(e.buf, b) }
func (e *encoder) fixed64(v uint64) { e.buf = binary.BigEndian.AppendUint64(e.buf, v) }

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// decoder reads fields; the first error sticks and later reads return zero values.
type decoder struct {
	buf []byte
	err error
}

func (d *decoder) more() bool { return d.err == nil && len(d.buf) > 0 }

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.buf = nil
}

func (d *decoder) u8() uint8 {
	if len(d.buf) == 0 {
		d.fail(errTruncated)
		return 0
	}
	b := d.buf[0]
	d.buf = d.buf[1:]
	return b
}

func (d *decoder) op() op     { return op(d.u8()) }
func (d *decoder) bool() bool { return d.u8() != 0 }

func (d *decoder) u64() uint64 {
	v, n := binary.Uvarint(d.buf)
	if n <= 0 {
		d.fail(errTruncated)
		return 0
	}
	d.buf = d.buf[n:]
	return v
}

func (d *decoder) i64() int64 {
	v, n := binary.Varint(d.buf)
	if n <= 0 {
		d.fail(errTruncated)
		return 0
	}
	d.buf = d.buf[n:]
	return v
}

func (d *decoder) fixed64() uint64 {
	var b [8]byte
	d.raw(b[:])
	return binary.BigEndian.Uint64(b[:])
}

func (d *decoder) f64() float64 { return math.Float64frombits(d.fixed64()) }

func (d *decoder) raw(dst []byte) {
	if len(d.buf) < len(dst) {
		d.fail(errTruncated)
		return
	}
	copy(dst, d.buf)
	d.buf = d.buf[len(dst):]
}

// bytes returns a copy.
func (d *decoder) bytes() []byte {
	n := d.u64()
	if n > uint64(len(d.buf)) {
		d.fail(errTruncated)
		return nil
	}
	b := append([]byte(nil), d.buf[:n]...)
	d.buf = d.buf[n:]
	return b
}

func (d *decoder) str() string { return string(d.bytes()) }

// count reads the number of items that follow; each takes at least one byte, so a larger number is an error, not an allocation.
func (d *decoder) count() int {
	n := d.u64()
	if n > uint64(len(d.buf)) {
		d.fail(errTruncated)
		return 0
	}
	return int(n)
}
