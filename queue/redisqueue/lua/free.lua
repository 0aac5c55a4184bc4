-- gen, token: ended places that every edge has heard of, or whose lease is over for their home too; and the controller's own set
local PAGE = 1000
local all, marks = math.huge, {}
local edges = call('HGETALL', EDGES)
for i = 1, #edges, 2 do
  local e = edge_parse(edges[i + 1])
  all = min(all, e.cursor)
  marks[edges[i]] = min(e.mark, now)
end
local n = 0
local function free(sid)
  call('ZREM', ENDQ, sid)
  call('HDEL', SX, sid)
  n = n + 1
end
-- What every edge has heard of lies at the beginning of the queue.
local heard = call('ZRANGEBYSCORE', ENDQ, '-inf', all == math.huge and '+inf' or int(all), 'LIMIT', 0, 5000)
for i = 1, #heard do free(heard[i]) end
-- The rest may be long while an edge is silent: a part of it each time.
local rest = call('ZCARD', ENDQ)
if rest > 0 then
  local at = rest > PAGE and num(hget('freeat')) or 0
  if at >= rest then at = 0 end
  local kept = 0
  for _, sid in ipairs(call('ZRANGE', ENDQ, at, at + PAGE - 1)) do
    local v = call('HGET', SX, sid)
    if not v then
      free(sid)
    else
      local mark = marks[sx_home(v)] or now
      if unpack8('>I8', v, 25) <= mark then free(sid) else kept = kept + 1 end
    end
  end
  if rest > PAGE then set('freeat', int(at + kept)) end
end
act_delta, freed_delta = -n, n
local swept = sweep(OWN, now)
settle()
if n + swept > 0 then moment() end
return {'ok', n + swept}
