-- gen, token
if not current then return {'no-line'} end
for _, l in ipairs(lines) do
  local r = call('HMGET', C, 'rowto:' .. l, 'sealed:' .. l)
  if num(r[1]) > num(r[2]) then return {'not-idle'} end
  for i = 0, lane_count(l) - 1 do
    r = call('HMGET', C, 'called:' .. l .. ':' .. i, 'total:' .. l .. ':' .. i)
    if num(r[1]) ~= num(r[2]) then return {'not-idle'} end
  end
end
for _, n in ipairs(parked()) do
  if n > 0 then return {'not-idle'} end
end
local r = call('HMGET', C, 'act', 'cap')
if num(r[1]) >= 0.9 * num(r[2]) then return {'not-idle'} end
set('open', 1, 'last', int(now))
return {'ok'}
