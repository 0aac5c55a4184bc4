-- gen, token, line, from, to, link before, link after, counts per lane
local l, from, to = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local lanes = lane_count(l)
if lanes == 0 then return {'no-line'} end
if #ARGV - 7 ~= lanes then return {'lanes', lanes} end
local r = call('HMGET', C, 'sealed:' .. l, 'chain:' .. l)
local sealed, chain = num(r[1]), r[2] or string.rep('\0', 32)
if to == sealed and ARGV[7] == chain then return {'ok'} end -- a repetition
if from ~= sealed or ARGV[6] ~= chain or not claimable(l) then return {'chain'} end
for lane = 0, lanes - 1 do ledger_append(l, lane, from, ARGV[8 + lane]) end
seal_note(l, from, to, ARGV[7])
moment()
return {'ok'}
