// Package line is the kernel of the waiting room: pure decisions and frozen formats, no I/O, no clock, no goroutine.
//
// It holds what a fan's place is made of (stamps, windows, the sealed ledger, ranks, the draw), the signed ticket that
// carries a place, the signed line record that fixes an opening before it happens, and the few values that edges,
// controller and simulator exchange. Everything here can be recomputed by anybody who has the published record; the
// formats are specified, with test vectors, in docs/reference/formats.md.
package line
