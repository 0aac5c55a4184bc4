-- gen, edge, no, digest, mark, cursor, line or nothing, complete, seals seen, label, bye, parked, known settings, known forecast,
-- numbers of rows, renewals, ends, arrivals and outage grants; then rows (line, window, lane, edge, count), renewals (session, until),
-- ends, arrivals (lane, age, count), outage grants (session, end, stay, line, bitmap, bit, holders, holder)
if ARGV[1] == '' or ARGV[1] ~= gen then return gen_error end
local inc, no, digest, mark, cursor = ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local v = call('HGET', EDGES, inc)
if not v and no > 1 then return {'ok', 1, control(ARGV[13], ARGV[14])} end
local e = v and edge_parse(v)
local again = false
if not e then
  e = {no = 0, digest = '0', mark = 0, cursor = 0, seen = 0, complete = 0, bye = '0', line = '-'}
elseif no == e.no and digest == e.digest then
  again = true
elseif no <= e.no and e.digest ~= '0' then
  return {'clone'}
end
registered_memo[inc] = true
e.no, e.digest, e.seen, e.mark, e.cursor = no, digest, now, max(e.mark, mark), max(e.cursor, cursor)
if ARGV[11] == '1' then e.bye = '1' end
e.parked, e.label = ARGV[12] == '' and '-' or ARGV[12], ARGV[10]
local l, complete, seen = ARGV[7], tonumber(ARGV[8]), 0
if current and (l == '' or l == current) then
  if e.line ~= current then e.line, e.complete = current, 0 end
  e.complete = max(e.complete, complete)
  seen = tonumber(ARGV[9])
else
  e.line, e.complete = l == '' and '-' or l, complete
end
edge_store(inc, e)

-- Rows and arrivals.
local nrows, nren, nends, narr, nout = tonumber(ARGV[15]), tonumber(ARGV[16]), tonumber(ARGV[17]), tonumber(ARGV[18]), tonumber(ARGV[19])
local a, late, fresh, to, sealed, lanes = 20, 0, false, {}, {}, {}
for _ = 1, nrows do
  local rl, w, lane, n = ARGV[a], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 4])
  if not sealed[rl] then
    sealed[rl] = num(hget('sealed:' .. rl))
    lanes[rl] = claimable(rl) and lane_count(rl) or 0
    to[rl] = 0
  end
  if lane < lanes[rl] and n > 0 then
    local key, field = P .. 'w:' .. rl .. ':' .. int(floor(w / 10)), ARGV[a + 1] .. ':' .. ARGV[a + 2] .. ':' .. ARGV[a + 3]
    local had = num(call('HGET', key, field))
    if n > had then
      fresh = true
      if w >= sealed[rl] then
        call('HSET', key, field, n)
        to[rl] = max(to[rl], w + 1)
      else
        if not again then late = late + n - had end
        if w + KEEP_ROWS >= sealed[rl] then
          call('HSET', key, field, n)
          if (floor(w / 10) + 1) * 10 <= sealed[rl] then call('EXPIRE', key, 120) end
        end
      end
    end
  end
  a = a + 5
end
for rl, x in pairs(to) do
  if x > num(hget('rowto:' .. rl)) then set('rowto:' .. rl, int(x)) end
end
if late > 0 then call('HINCRBY', C, 'late', late) end
if fresh then set('open', 0) end
local ren, ends, arr = a, a + 2 * nren, a + 2 * nren + nends
if not again then
  for i = arr, arr + 3 * narr - 1, 3 do
    call('HINCRBY', P .. 'arr', inc .. ':' .. ARGV[i] .. ':' .. ARGV[i + 1], ARGV[i + 2])
  end
end

-- Sessions whose new home was waiting for this edge to hear of the move.
local moving = call('ZRANGEBYSCORE', P .. 'mv:' .. inc, '-inf', int(e.cursor))
for i = 1, #moving do apply_move(inc, moving[i]) end

-- What this edge admitted while the store did not answer, into places of its own.
a = arr + 3 * narr
for _ = 1, nout do
  restore_session(inc, ARGV[a], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]))
  restore_spent(a + 3)
  a = a + 8
end

-- Renewals.
local leases, idle = {}, num(hget('idle'))
local function answer(sid, till, stay)
  leases[#leases + 1], leases[#leases + 2], leases[#leases + 3] = sid, till, stay
end
local function renew(sid, wish)
  v = call('HGET', SX, sid)
  if not v or sx_ended(v) then return answer(sid, 0, 0) end
  local home, stay = sx_home(v), sx_stay(v)
  local key, lease, own = where(sid, home)
  if not key then return answer(sid, 0, 0) end
  local till = min(now + idle, stay)
  if wish > 0 then till = min(till, wish) end
  till = max(till, lease)
  if own and home == inc then
    if till ~= lease then call('ZADD', key, till, sid) end
    return answer(sid, till, stay)
  end
  if not own then
    rehome(sid, v, key, inc, till)
    return answer(sid, till, stay)
  end
  -- The living home has to hear of it first.
  if not sx_moving(v) then
    local p = feed_add('M' .. sid .. inc)
    call('HSET', SX, sid, sx_live(home, stay) .. inc .. pack('>I8', p) .. pack('>I8', till))
    call('ZADD', P .. 'mv:' .. home, int(p), sid)
  elseif string.sub(v, 25, 40) == inc and till > unpack8('>I8', v, 49) then
    call('HSET', SX, sid, string.sub(v, 1, 48) .. pack('>I8', till))
  end
end
for i = ren, ren + 2 * nren - 1, 2 do renew(ARGV[i], tonumber(ARGV[i + 1])) end

-- Ends: the place stays counted until every edge has heard of it.
for i = ends, ends + nends - 1 do
  local sid = ARGV[i]
  v = call('HGET', SX, sid)
  if v and not sx_ended(v) then
    local key, lease = where(sid, sx_home(v))
    drop_move(sid, v)
    call('ZREM', LAPSED, sid)
    if key then
      call('ZREM', key, sid)
      call('ZADD', ENDQ, int(feed_add('E' .. sid)), sid)
      call('HSET', SX, sid, string.sub(v, 1, 24) .. pack('>I8', lease))
    else -- it had lapsed and may no longer return
      call('HDEL', SX, sid)
    end
  end
end

-- This edge's sessions end up to its own mark.
sweep(ses(inc), min(e.mark, now))

-- What is too old is forgotten.
local old = call('ZRANGEBYSCORE', LAPSED, '-inf', int(now - num(hget('return'))), 'LIMIT', 0, TRIM)
for i = 1, #old do
  call('ZREM', LAPSED, old[i])
  call('HDEL', SX, old[i])
end
settle()
moment()

-- The seals after what the edge has seen, as they were made: from, to, link; and the bases of all of them per lane.
local seals, bases = {}, {}
local upto = current and num(hget('sealed:' .. current)) or 0
if seen < upto then
  local key = P .. 'seals:' .. current
  local links = call('LRANGE', key, -4, -1)
  if #links == 4 and unpack8('>I4', links[1]) > seen then links = call('LRANGE', key, 0, -1) end
  local first, last
  for i = 1, #links do
    local from, t = unpack8('>I4I4', links[i])
    if t > seen then
      if #seals == 3 * SEAL_RANGES or (first and t - first > SEAL_PAGE) then break end
      first, last = first or from, t
      seals[#seals + 1], seals[#seals + 2], seals[#seals + 3] = from, t, string.sub(links[i], 9)
    end
  end
  for lane = 0, first and lane_count(current) - 1 or -1 do
    local buf = {}
    for c = floor(first / 600), floor((last - 1) / 600) do
      local lo, hi = max(first, c * 600), min(last, (c + 1) * 600)
      if #buf > 0 then lo = lo + 1 end -- the base between two chunks is in both
      buf[#buf + 1] = call('GETRANGE', P .. 'led:' .. current .. ':' .. lane .. ':' .. int(c), 8 * (lo - c * 600), 8 * (hi - c * 600) + 7)
    end
    bases[lane + 1] = table.concat(buf)
  end
end

-- The end feed after the cursor, as far back as it is kept.
local feed = {}
for _, x in ipairs(call('XRANGE', FEED, '(' .. int(max(cursor, (now - FEED_KEEP) * FEED_UNIT - 1)), '+', 'COUNT', FEED_PAGE)) do
  feed[#feed + 1], feed[#feed + 2] = string.match(x[1], '^%d+'), x[2][2]
end
return {'ok', 0, control(ARGV[13], ARGV[14]), leases, current or '', seals, bases, feed}
