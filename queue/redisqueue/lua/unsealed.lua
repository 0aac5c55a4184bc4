-- line, from, to: rows of the windows [from, to) that are not sealed
local l = ARGV[1]
if call('EXISTS', P .. 'line:' .. l) == 0 then return {'no-line'} end
local r = call('HMGET', C, 'sealed:' .. l, 'rowto:' .. l)
local from, to = max(tonumber(ARGV[2]), num(r[1])), min(tonumber(ARGV[3]), num(r[2]))
local out = {}
if from < to then
  for s = floor(from / 10), floor((to - 1) / 10) do
    local rows = call('HGETALL', P .. 'w:' .. l .. ':' .. int(s))
    for i = 1, #rows, 2 do
      local w = tonumber(string.match(rows[i], '^%d+'))
      if w >= from and w < to then out[#out + 1], out[#out + 2] = rows[i], rows[i + 1] end
    end
  end
end
return {'ok', out}
