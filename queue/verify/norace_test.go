//go:build !race

package verify

// raceDetector reports whether the race detector slows the tests down and makes pools forget.
const raceDetector = false
