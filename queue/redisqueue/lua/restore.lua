-- edge, label, number of sessions, of stamps, of called lanes, of seals; then sessions (id, end, stay), stamps (line, bitmap, bit,
-- holders, holder), called (line, lane, called), seals (line, from, to, link, lanes, counts per lane)
if gen ~= '' then return {'gen-set'} end
local inc = ARGV[1]
local v = call('HGET', EDGES, inc)
local e = v and edge_parse(v) or {no = 0, digest = '0', mark = 0, cursor = 0, complete = 0, bye = '0', line = '-', parked = '-'}
e.label, e.seen = ARGV[2], now
edge_store(inc, e)
registered_memo[inc] = true
local ns, nt, nc, nl = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local a = 7
for _ = 1, ns do
  restore_session(inc, ARGV[a], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]))
  a = a + 3
end
for _ = 1, nt do
  restore_spent(a)
  a = a + 5
end
local called = a
a = a + 3 * nc
for _ = 1, nl do
  local l, from, to, link, lanes = ARGV[a], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), ARGV[a + 3], tonumber(ARGV[a + 4])
  local sealed = num(hget('sealed:' .. l))
  if claimable(l) and lanes == lane_count(l) and to > sealed and from <= sealed then
    for lane = 0, lanes - 1 do ledger_append(l, lane, sealed, string.sub(ARGV[a + 5 + lane], 8 * (sealed - from) + 1)) end
    seal_note(l, sealed, to, link)
  end
  a = a + 5 + lanes
end
for i = called, called + 3 * nc - 1, 3 do
  local l, lane, x = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  if claimable(l) and lane < lane_count(l) then
    local f = l .. ':' .. lane
    local r = call('HMGET', C, 'called:' .. f, 'total:' .. f)
    if x > num(r[1]) and x <= num(r[2]) then set('called:' .. f, int(x)) end
  end
end
-- Counted anew: the control record may be older or newer than the sets.
local act = call('ZCARD', ENDQ) + call('ZCARD', OWN)
for _, k in ipairs(call('HKEYS', EDGES)) do act = act + call('ZCARD', ses(k)) end
set('act', act, 'last', int(now))
return {'ok'}
