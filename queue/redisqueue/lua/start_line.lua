-- gen, token, line, lanes, published part as JSON, honoured lines
local l, lanes = ARGV[3], tonumber(ARGV[4])
local key = P .. 'line:' .. l
if call('EXISTS', key) == 1 then
  if l ~= current then return {'not-current'} end
  call('HSET', key, 'published', ARGV[5])
  return {'ok'}
end
local next_lines, keep = {}, {[l] = true}
for h in string.gmatch(ARGV[6], '%x+') do
  if h ~= l and claimable(h) and not keep[h] then
    next_lines[#next_lines + 1] = h
    keep[h] = true
  end
end
next_lines[#next_lines + 1] = l
-- A line that is not honoured loses what only claims need. Its record and ledger can be verified for another week.
local retired = {}
for i = 1, #lines do
  local old = lines[i]
  if not keep[old] then
    local n, okey = lane_count(old), P .. 'line:' .. old
    local f = {'sealed:' .. old, 'chain:' .. old, 'rowto:' .. old}
    for lane = 0, n - 1 do
      for _, name in ipairs({'called:', 'due:', 'total:'}) do f[#f + 1] = name .. old .. ':' .. lane end
      call('DEL', P .. 'hist:' .. old .. ':' .. lane)
      for c = 0, floor(num(hget('sealed:' .. old)) / 600) do
        call('EXPIRE', P .. 'led:' .. old .. ':' .. lane .. ':' .. int(c), 604800)
      end
    end
    for _, name in ipairs(f) do
      local v = hget(name)
      if v then call('HSET', okey, name, v) end
    end
    call('HDEL', C, unpack(f))
    call('EXPIRE', okey, 604800)
    call('UNLINK', P .. 'seals:' .. old)
    retired[#retired + 1] = old
  end
end
call('HSET', key, 'published', ARGV[5], 'lanes', lanes, 'honours', ARGV[6])
set('lines', table.concat(next_lines, ','), 'open', 0, 'last', int(now))
return {'ok', retired}
