// Package redisqueue keeps rooms in Redis 7 or Valkey: one server, a primary with replicas under Sentinel, or a cluster.
//
// Each step of queue.Store is one Lua script (folder lua) on keys under the hash tag {room}, so a room lives in one slot and every
// step is atomic. Scripts judge by the server's clock, which they never let go back.
//
// A script's text carries the run id of the server process for which it was loaded. Any other process, restarted or promoted,
// does not know the script, so nothing runs there before its run id has been read on the same connection; and because a gen
// is stored with the run id under which it was set, a gen never outlives its process.
//
// Claims, renewals, ends, seals and a leader's settings travel on connections of their own, followed by WAIT in the same round trip
// for every replica in sync, at least MinReplicas. Only what WAIT confirmed becomes a pass.
//
// The keys of a room, after the prefix and {room}: (a line is 32 hexadecimal digits, an edge 16):
//
//	c                      hash     control record: gen, token, clocks, settings, lines, called, due and total per lane, seal, counters
//	line:<line>            hash     a line's published part; a line that is no longer claimable also keeps its lanes here for a week
//	w:<line>:<sec>         hash     window:lane:edge -> tickets stamped; expires 120 s after its windows are sealed
//	led:<line>:<lane>:<n>  string   600 sealed windows: the base before each and after the last, 8 bytes each
//	seals:<line>           list     the last 600 seals: from, to, link of the chain
//	hist:<line>:<lane>     list     when the lane was called how far, for one grace period
//	sp:<line>:<edge>:<n>   bitmap   spent stamps of an edge, 131,072 each
//	who:<line>:<3 hex>     set      holders who claimed, packed integers
//	ses:<edge>             zset     session -> lease end, by home; ses:0 holds those of reaped edges
//	sx                     hash     session -> home, stay_until; with its end or its move when it has ended or is moving
//	mv:<edge>              zset     sessions about to leave this home -> feed position of the move
//	edges                  hash     edge -> last flush, mark, cursor, parked, label
//	arr                    hash     edge:lane:age -> fans who came to the door since the last call
//	ends                   stream   the end feed, ten minutes of it
//	endq                   zset     ended session -> feed position, until its place is free
//	lapsed                 zset     session that ran out before its stay -> lease end, for return_s
//	gr                     hash     grants and late grants per second of the last minute
//	net:<group>            string   grants to a network group in its minute; expires after it
package redisqueue
