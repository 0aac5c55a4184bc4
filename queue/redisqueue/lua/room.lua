-- Scripts that begin with this file work on a room that is there.
local head = call('HMGET', C, 'made', 'gen', 'run', 'token', 'last', 'lines')
if not head[1] then return {'no-room'} end
-- A gen belongs to one server process: after a failover or a restart it counts as unset.
local gen = (head[3] == RUN and head[2]) or ''
local token = head[4] or ''
local now = clock(head[5])
local lines = {}
for l in string.gmatch(head[6] or '', '%x+') do lines[#lines + 1] = l end
local current = lines[#lines]

local function claimable(l)
  for i = 1, #lines do
    if lines[i] == l then return true end
  end
  return false
end

-- moment notes the store time; every script that changes something calls it.
local function moment() set('last', int(now)) end

local gen_error = {'gen', gen}

-- Edges are kept as text: no digest mark cursor seen complete bye line parked label.
local function edge_parse(v)
  local e = {}
  e.no, e.digest, e.mark, e.cursor, e.seen, e.complete, e.bye, e.line, e.parked, e.label =
    string.match(v, '^(%d+) (%x+) (%-?%d+) (%-?%d+) (%d+) (%d+) (%d) (%S+) (%S+) (.*)$')
  for _, f in ipairs({'no', 'mark', 'cursor', 'seen', 'complete'}) do e[f] = tonumber(e[f]) end
  return e
end

local function edge_store(inc, e)
  call('HSET', EDGES, inc, table.concat({
    int(e.no), e.digest, int(e.mark), int(e.cursor), int(e.seen), int(e.complete), e.bye, e.line, e.parked, e.label}, ' '))
end

local registered_memo = {}
local function registered(inc)
  local r = registered_memo[inc]
  if r == nil then
    r = call('HEXISTS', EDGES, inc) == 1
    registered_memo[inc] = r
  end
  return r
end

local function ses(inc) return P .. 'ses:' .. inc end
local OWN = ses('0') -- the controller's own set: sessions of edges that were reaped

-- A session in sx: home, stay_until; when it has ended also its lease end (32 bytes); while it is moving also the new home, the
-- feed position of the move and the lease asked for (56 bytes).
local function sx_home(v) return string.sub(v, 1, 16) end
local function sx_stay(v) return (unpack8('>I8', v, 17)) end
local function sx_ended(v) return #v == 32 end
local function sx_moving(v) return #v == 56 end
local function sx_live(home, stay) return home .. pack('>I8', stay) end

-- where finds the set in which a session is counted and its lease end there, and says whether that is its living home's. The set
-- is nil when the session has no place.
local function where(sid, home)
  if registered(home) then
    local k = ses(home)
    local e = call('ZSCORE', k, sid)
    if e then return k, tonumber(e), true end
  end
  local e = call('ZSCORE', OWN, sid)
  if e then return OWN, tonumber(e), false end
  return nil, 0, false
end

local function holds(home)
  if registered(home) then return ses(home) end
  return OWN
end

local act_delta, freed_delta = 0, 0
local function settle()
  if act_delta ~= 0 then call('HINCRBY', C, 'act', act_delta) end
  if freed_delta ~= 0 then call('HINCRBY', C, 'freed', freed_delta) end
end

local function drop_move(sid, v)
  if v and sx_moving(v) then call('ZREM', P .. 'mv:' .. sx_home(v), sid) end
end

-- place gives a session a place under home; a place of the same session that waits there to be swept is reused. old is what sx
-- held of it before.
local function place(sid, home, lease, stay, old)
  act_delta = act_delta + call('ZADD', holds(home), lease, sid)
  call('ZREM', LAPSED, sid)
  drop_move(sid, old)
  call('HSET', SX, sid, sx_live(home, stay))
end

-- rehome moves a session's place to another edge.
local function rehome(sid, v, from, to, lease)
  act_delta = act_delta - call('ZREM', from, sid)
  drop_move(sid, v)
  act_delta = act_delta + call('ZADD', holds(to), lease, sid)
  call('HSET', SX, sid, sx_live(to, sx_stay(v)))
end

-- apply_move completes a move that the old home has seen.
local function apply_move(home, sid)
  call('ZREM', P .. 'mv:' .. home, sid)
  local v = call('HGET', SX, sid)
  if not v or not sx_moving(v) or sx_home(v) ~= home then return end
  local to = string.sub(v, 25, 40)
  local lease = unpack8('>I8', v, 49)
  local from, e = where(sid, sx_home(v))
  if from then rehome(sid, v, from, to, max(e, min(lease, sx_stay(v)))) end
end

-- restore_session adds a session that an edge says is its own, or gives a known one the later lease and its home.
local function restore_session(inc, sid, lease, stay)
  local v = call('HGET', SX, sid)
  if not v then return place(sid, inc, lease, stay) end
  if sx_ended(v) then return end
  local k, known = where(sid, sx_home(v))
  if not k then -- lapsed here, alive there
    place(sid, inc, lease, max(stay, sx_stay(v)), v)
  elseif lease > known then
    rehome(sid, v, k, inc, lease)
  end
end

-- restore_spent gives back an admitted stamp and its holder: ARGV from a on is line, bitmap, bit, holders, holder.
local function restore_spent(a)
  if not claimable(ARGV[a]) then return end
  call('SETBIT', P .. ARGV[a + 1], ARGV[a + 2], 1)
  if ARGV[a + 3] ~= '' then call('SADD', P .. ARGV[a + 3], ARGV[a + 4]) end
end

-- sweep frees the places of one set whose lease ended at or before a time.
local function sweep(key, till)
  local due = call('ZRANGEBYSCORE', key, '-inf', int(till), 'WITHSCORES', 'LIMIT', 0, SWEEP)
  local n = #due / 2
  if n == 0 then return 0 end
  call('ZREMRANGEBYRANK', key, 0, n - 1)
  act_delta, freed_delta = act_delta - n, freed_delta + n
  for i = 1, #due, 2 do
    local sid, e = due[i], tonumber(due[i + 1])
    local v = call('HGET', SX, sid)
    -- Otherwise it was an old place of a session that has ended, lives elsewhere or lapsed before.
    if v and not sx_ended(v) and not where(sid, sx_home(v)) and not call('ZSCORE', LAPSED, sid) then
      drop_move(sid, v)
      if e < sx_stay(v) then
        call('ZADD', LAPSED, e, sid)
        call('HSET', SX, sid, string.sub(v, 1, 24))
      else
        call('HDEL', SX, sid)
      end
    end
  end
  return n
end

-- Feed positions are made of the time, so they grow through failovers and the feed can be trimmed by age.
local pos
local function feed_add(body)
  pos = max((pos or num(hget('pos'))) + 1, now * FEED_UNIT)
  call('XADD', FEED, 'MINID', '~', int((now - FEED_KEEP) * FEED_UNIT) .. '-0', int(pos) .. '-0', 'e', body)
  set('pos', int(pos))
  return pos
end

-- granted sums the grants of the last 60 s, all and late ones, without writing.
local function granted()
  local r = call('HMGET', C, 'gsec', 'gsum', 'lsum')
  local sec, last, all, late = floor(now / 1000), num(r[1]), num(r[2]), num(r[3])
  if all == 0 or sec - last >= 60 then return 0, 0 end
  for s = last + 1, sec do
    local old = call('HMGET', P .. 'gr', s % 60, 'l' .. s % 60)
    all, late = all - num(old[1]), late - num(old[2])
  end
  return all, late
end

-- parked sums the claims that wait at the doors of living edges, per lane.
local function parked()
  local sum = {}
  local edges = call('HGETALL', EDGES)
  for i = 2, #edges, 2 do
    local e = edge_parse(edges[i])
    if e.bye == '0' and now - e.seen <= LIVING then
      local lane = 0
      for n in string.gmatch(e.parked, '%d+') do
        lane = lane + 1
        sum[lane] = (sum[lane] or 0) + tonumber(n)
      end
    end
  end
  return sum
end

-- ledger_append seals windows of a lane: counts is a string of 8-byte numbers. Chunks hold the base at their first window and the
-- base after each of their windows.
local function ledger_append(l, lane, from, counts)
  local total, w, i = num(hget('total:' .. l .. ':' .. lane)), from, 1
  while i <= #counts do
    local c = floor(w / 600)
    local key = P .. 'led:' .. l .. ':' .. lane .. ':' .. int(c)
    local buf = {}
    if w == c * 600 then buf[1] = pack('>I8', total) end
    repeat
      total = total + unpack8('>I8', counts, i)
      buf[#buf + 1] = pack('>I8', total)
      i, w = i + 8, w + 1
    until i > #counts or w == (c + 1) * 600
    call('APPEND', key, table.concat(buf))
    if w == (c + 1) * 600 then call('SET', key, call('GET', key)) end -- gives back what APPEND keeps for growth
  end
  set('total:' .. l .. ':' .. lane, int(total))
end

-- seal_note moves a line's seal to `to` and remembers the link of its chain.
local function seal_note(l, from, to, chain)
  set('sealed:' .. l, int(to), 'chain:' .. l, chain)
  call('RPUSH', P .. 'seals:' .. l, pack('>I4I4', from, to) .. chain)
  call('LTRIM', P .. 'seals:' .. l, -KEEP_SEALS, -1)
  for s = floor(from / 10), floor(to / 10) - 1 do call('EXPIRE', P .. 'w:' .. l .. ':' .. int(s), 120) end
end

-- line_field reads a field of a line: of a claimable one in the control record, of an old one beside its record.
local function line_fields(l, lanes)
  local out = {}
  local src = claimable(l) and C or P .. 'line:' .. l
  local f = {'sealed:' .. l, 'chain:' .. l}
  for i = 0, lanes - 1 do
    f[#f + 1], f[#f + 2], f[#f + 3] = 'called:' .. l .. ':' .. i, 'due:' .. l .. ':' .. i, 'total:' .. l .. ':' .. i
  end
  local v = call('HMGET', src, unpack(f))
  out[1], out[2], out[3] = l, int(num(v[1])), v[2] or ''
  for i = 3, #v do out[#out + 1] = int(num(v[i])) end
  return out
end

local function lane_count(l) return num(call('HGET', P .. 'line:' .. l, 'lanes')) end

-- control is the control record as the edges and the controller read it. Settings and forecast are left out when the reader has them.
local function control(known_settings, known_forecast)
  local c = call('HMGET', C, 'beat', 'tick', 'open', 'act', 'late', 'dig', 'fdig')
  local settings, forecast = false, false
  if c[6] and c[6] ~= known_settings then settings = hget('settings') end
  if c[7] and c[7] ~= known_forecast then forecast = hget('forecast') end
  local ls = {}
  for i = 1, #lines do ls[i] = line_fields(lines[i], lane_count(lines[i])) end
  local all = granted()
  return {
    gen, token, int(num(c[1])), int(num(c[2])), int(now), num(c[3]), num(c[4]), all, num(c[5]),
    c[6] or '', settings, c[7] or '', forecast, ls}
end
