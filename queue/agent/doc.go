// Package agent is the half of the waiting room that runs in every edge. It stamps tickets, computes places, keeps the door where
// called fans wait for a free place, and looks after the sessions whose home this edge is, in rooms whose truth lives in a
// queue.Store.
//
// A fan who waits costs the agent a signature and nothing else: ranks are computed from the fan's own ticket and the sealed
// ledger, of which each agent keeps a copy. Every 100 ms one flush per room reports what was stamped, renewed and ended and brings
// back what changed; called fans are claimed in batches of up to 64. When the store does not answer, stamping, places and the
// passes of those inside go on, and fans are let in only into places that this agent owns (see outage.go).
package agent
