//go:build race

package line

// raceDetector reports whether the race detector slows the tests down and makes pools forget.
const raceDetector = true
