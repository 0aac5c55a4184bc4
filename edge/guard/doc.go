// Package guard is the strict HTTP/1.1 border of the edge: it reads requests from connections and lets through only what
// every parser behind it reads the same way.
//
// A general-purpose server accepts what old clients may send: bare line feeds, folded fields, two framings. Each such
// leniency is a way to make two programs see different requests in the same bytes. Guard therefore parses heads and bodies
// itself (Parse, Body), refuses what is ambiguous with one named reason each, and hands the server behind it a constant
// stand-in for the head, so that no second parser ever sees a client's bytes. The request as Guard understood it is found
// on the connection (Conn.Request), its body is read through Guard (Conn.Body), and what is routed is what is forwarded.
//
// The cases are files in testdata, one verdict each.
package guard
