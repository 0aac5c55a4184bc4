-- gen, token, edge, silent for more than so many ms, at once
local inc = ARGV[3]
local v = call('HGET', EDGES, inc)
if not v then return {'ok', 0} end
local e = edge_parse(v)
if ARGV[5] ~= '1' and e.bye ~= '1' and now - e.seen <= tonumber(ARGV[4]) then return {'ok', 0} end
local n = call('ZCARD', ses(inc))
local moving = call('ZRANGE', P .. 'mv:' .. inc, 0, -1)
for i = 1, #moving do apply_move(inc, moving[i]) end
call('HDEL', EDGES, inc)
registered_memo[inc] = false
local mine = ses(inc)
local here, own = call('ZCARD', mine), call('ZCARD', OWN)
if here > 0 then
  local union = call('ZUNIONSTORE', OWN, 2, OWN, mine, 'AGGREGATE', 'MAX')
  act_delta = act_delta + union - here - own
end
call('UNLINK', mine, P .. 'mv:' .. inc)
local arr = call('HKEYS', P .. 'arr')
for i = 1, #arr do
  if string.sub(arr[i], 1, 16) == inc then call('HDEL', P .. 'arr', arr[i]) end
end
settle()
moment()
return {'ok', n}
