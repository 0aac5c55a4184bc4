-- gen, token, forecast, its digest, then per line: id, number of lanes, called per lane
local a, steps = 5, {}
while ARGV[a] do
  local l, n = ARGV[a], tonumber(ARGV[a + 1])
  if not claimable(l) then return {'no-line'} end
  local lanes = lane_count(l)
  if n > lanes then return {'lanes', lanes} end
  for i = 0, n - 1 do
    local x = tonumber(ARGV[a + 2 + i])
    local r = call('HMGET', C, 'called:' .. l .. ':' .. i, 'due:' .. l .. ':' .. i, 'total:' .. l .. ':' .. i)
    if x < num(r[1]) or x > num(r[3]) then return {'backwards'} end
    steps[#steps + 1] = {l .. ':' .. i, x, num(r[1]), num(r[2])}
  end
  a = a + 2 + n
end
local grace = num(hget('grace'))
for _, s in ipairs(steps) do
  -- `due` follows `called` a grace period later, by a list of when it moved.
  local hist, x, called, due = P .. 'hist:' .. s[1], s[2], s[3], s[4]
  local h = call('LINDEX', hist, 0)
  if x ~= called or (not h and due < called) then
    call('RPUSH', hist, int(now) .. ' ' .. int(x))
    h = h or call('LINDEX', hist, 0)
  end
  local new_due = due
  while h do
    local at, n = string.match(h, '^(%d+) (%d+)$')
    if tonumber(at) > now - grace then break end
    new_due = tonumber(n)
    call('LPOP', hist)
    h = call('LINDEX', hist, 0)
  end
  set('called:' .. s[1], int(x), 'due:' .. s[1], int(max(due, new_due)))
end
set('tick', int(now), 'beat', int(now), 'forecast', ARGV[3], 'fdig', ARGV[4], 'last', int(now))
local arrivals = call('HGETALL', P .. 'arr')
if #arrivals > 0 then call('DEL', P .. 'arr') end
local c = call('HMGET', C, 'act', 'freed', 'granted')
return {'ok', int(now), num(c[1]), num(c[2]), num(c[3]), parked(), arrivals}
