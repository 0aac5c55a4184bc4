//go:build race

package storetest

// underRace: the race detector makes SQLite twenty times slower and learns
// nothing from a journey that is repeated with a kill in it.
const underRace = true
