// Package simulate plays an on-sale in virtual time: fans who arrive, wait, come, stay and leave, edges, a store and a controller,
// and what breaks among them. Places and ranks (queue/line), the calling law (queue/pace) and the forecasts (queue/room) are the
// product's own code; the store and the edges are a compact model of their rules for claims, leases, marks, the end feed and outages, without their
// networks and disks.
//
// A run is a function of scenario and seed. It measures what operators and fans notice, and checks the protocol's invariants at every
// step. What it shows is that the rules add up; that an implementation keeps the rules is for the conformance suites and drills to show.
package simulate
