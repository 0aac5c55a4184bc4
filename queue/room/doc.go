// Package room is what a room is told to be and what it says about itself: the settings document, with its validation, and the
// forecast that the controller publishes with every call and from which every edge answers its fans. It is pure: no I/O, no
// clock, no goroutine.
package room
