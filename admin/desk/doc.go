// Package desk is the operator's desk without its pages: what the console knows of each room, and every change that can be made
// there.
//
// A recorder looks at each room once a second and keeps the last hour in fixed memory; pages, charts and streams read that
// memory and nothing else, so that no number of viewers costs the waiting room more than one look a second. Changes are changes of a
// room's settings document: checked, previewed, made only over the version that was looked at, with a reason, and undone by one more
// change.
package desk
