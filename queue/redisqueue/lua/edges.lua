-- All registered edges: id, text, sessions; and the arrivals that no call has taken yet.
local out, edges = {}, call('HGETALL', EDGES)
for i = 1, #edges, 2 do
  out[#out + 1], out[#out + 2], out[#out + 3] = edges[i], edges[i + 1], call('ZCARD', ses(edges[i]))
end
return {'ok', current or '', out, call('HGETALL', P .. 'arr')}
