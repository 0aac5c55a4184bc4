// Package edge is the public HTTP server of Stanchion: the one thing fans' browsers talk to.
//
// One request's way, left to right, each step able to end it:
//
//	listener -> guard -> facts -> route + room -> limit -> admit -> shed -> upstream -> response
//
// Package guard reads and judges the bytes and is the only HTTP parser on the way in; facts are what the later steps
// know of a request; package admit decides without I/O; package limit and package shed refuse what is too much; package
// upstream speaks to the origins; package waitpage renders what a fan sees. The waiting room behind it is an interface
// (Room) that this package declares and its caller supplies.
package edge
