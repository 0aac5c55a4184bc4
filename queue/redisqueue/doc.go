// Package redisqueue keeps rooms in Redis 7 or Valkey: one server, a primary with replicas under Sentinel, or a cluster.
//
// Each step of queue.Store is one Lua script (folder lua) on keys under the hash tag {room}, so a room lives in one slot and every
// step is atomic. Scripts judge by the server's clock, which they never let go back.
//
// A script's text carries the run id of the server process for which it was loaded. Any other process, restarted or promoted,
// does not know the script, so nothing runs there before its run id has been read on the same connection; and because a gen
// is stored with the run id under which it was set, a gen never outlives its process.
//
// Claims, renewals and ends travel on connections of their own, followed by WAIT in the same round trip; only what WAIT confirmed
// becomes a pass.
package redisqueue
