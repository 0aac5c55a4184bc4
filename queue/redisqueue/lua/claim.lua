-- gen, edge, parked elsewhere, then per claim: line, lane, rank, bitmap, bit, session, holders or nothing, holder, group, door, enter.
-- Returns per claim: status, lease end, stay until, retry in ms, called, again.
if ARGV[1] == '' or ARGV[1] ~= gen then return gen_error end
local inc, others = ARGV[2], ARGV[3] == '1'
if not registered(inc) then return {'unknown-edge'} end
local c = call('HMGET', C, 'tick', 'open', 'act', 'cap', 'gap', 'burst', 'tat', 'pause', 'first', 'enter', 'stay', 'return',
  'lshare', 'lfloor', 'nshare', 'nfloor', 'gsec', 'gsum', 'lsum')
local tick, act, cap, gap, burst, tat = num(c[1]), num(c[3]), num(c[4]), num(c[5]), num(c[6]), num(c[7])
local open, paused = c[2] == '1', c[8] and c[8] ~= ''
local first, enter, stay_max, return_ms = num(c[9]), num(c[10]), num(c[11]), num(c[12])
local lshare, lfloor, nshare, nfloor = num(c[13]), num(c[14]), num(c[15]), num(c[16])
local GR = P .. 'gr'

-- The ring of grants per second moves on to now.
local sec, gsec, gsum, lsum = floor(now / 1000), num(c[17]), num(c[18]), num(c[19])
if sec - gsec >= 60 then
  call('DEL', GR)
  gsum, lsum = 0, 0
else
  for s = gsec + 1, sec do
    local i = s % 60
    local old = call('HMGET', GR, i, 'l' .. i)
    if old[1] then
      gsum, lsum = gsum - num(old[1]), lsum - num(old[2])
      call('HDEL', GR, i, 'l' .. i)
    end
  end
end

local called_memo = {}
local function called_of(l, lane)
  local f = 'called:' .. l .. ':' .. lane
  local x = called_memo[f]
  if not x then
    x = num(hget(f))
    called_memo[f] = x
  end
  return x
end

-- known says what a spent stamp's session is: alive with its lease end; free to return (its stay); over for good.
local function known(sid)
  local v = call('HGET', SX, sid)
  if not v or sx_ended(v) then return nil end
  local k, e = where(sid, sx_home(v))
  if not k then
    e = num(call('ZSCORE', LAPSED, sid))
  elseif e > now then
    return 'alive', e, sx_stay(v), v
  end
  local stay = sx_stay(v)
  if stay <= now or now - e >= return_ms then return nil end
  return 'return', e, stay, v
end

local grants, lates = 0, 0
local OK, OTHER_LINE, PAUSED, SPENT, EARLY, FULL, RATE, SHARE, LATE, HOLDER, STALE, QUEUE = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12

local function decide(a)
  if now - tick > 3000 then return STALE end
  local l = ARGV[a]
  local entering = ARGV[a + 10] == '1'
  if not claimable(l) then return OTHER_LINE end
  if paused and not entering then return PAUSED end
  local bits, bit, sid = P .. ARGV[a + 3], ARGV[a + 4], ARGV[a + 5]
  local stay, returning, old = now + stay_max, false, nil
  if call('GETBIT', bits, bit) == 1 then
    local what, e, s, v = known(sid)
    if what == 'alive' then return OK, e, s, 0, 0, 1 end
    if not what then return SPENT end
    returning, stay, old = true, s, v
  end
  local lease = first
  if entering then
    lease = enter
    if not open or paused or l ~= current or act + act_delta >= 0.95 * cap then return QUEUE end
  elseif not returning then
    local called = called_of(l, ARGV[a + 1])
    if tonumber(ARGV[a + 2]) >= called then return EARLY, 0, 0, 0, called end
  end
  if act + act_delta >= cap then return FULL end
  local next_tat = tat
  if gap > 0 then
    next_tat = max(tat, now) + gap
    local wait = next_tat - now - max(burst, gap)
    if wait > 0 then return RATE, 0, 0, math.ceil(wait) end
  end
  local group, start, used = ARGV[a + 8], now, 0
  if group ~= '' then
    group = P .. 'net:' .. group
    local g = call('GET', group)
    if g then
      start, used = string.match(g, '^(%d+) (%d+)$')
      start, used = tonumber(start), tonumber(used)
      if now - start >= 60000 then start, used = now, 0 end
    end
    if nshare > 0 and used >= max(nfloor, nshare * gsum) then return SHARE, 0, 0, start + 60000 - now end
  end
  local late = ARGV[a + 9] == '2' and not entering
  if late and others and lsum >= max(lfloor, lshare * gsum) then return LATE, 0, 0, 1000 - now % 1000 end
  local who = ARGV[a + 6]
  -- The last objection, so that asking and adding are one step.
  if who ~= '' and not entering and call('SADD', P .. who, ARGV[a + 7]) == 0 and not returning then return HOLDER end
  local e = min(now + lease, stay)
  call('SETBIT', bits, bit, 1)
  place(sid, inc, e, stay, old)
  if group ~= '' then call('SET', group, int(start) .. ' ' .. int(used + 1), 'PX', 60000) end
  tat, grants, gsum = next_tat, grants + 1, gsum + 1
  if late then lates, lsum = lates + 1, lsum + 1 end
  return OK, e, stay, 0, 0, returning and 1 or 0
end

local out, n = {'ok'}, 1
for a = 4, #ARGV, 11 do
  local status, e, stay, retry, called, again = decide(a)
  out[n + 1], out[n + 2], out[n + 3], out[n + 4], out[n + 5], out[n + 6] = status, e or 0, stay or 0, retry or 0, called or 0, again or 0
  n = n + 6
end
if grants > 0 then
  local i = sec % 60
  call('HINCRBY', GR, i, grants)
  call('HINCRBY', GR, 'l' .. i, lates)
  call('HINCRBY', C, 'granted', grants)
  set('tat', string.format('%.17g', tat))
end
if grants > 0 or gsec ~= sec then set('gsec', sec, 'gsum', gsum, 'lsum', lsum, 'last', int(now)) end
settle()
return out
