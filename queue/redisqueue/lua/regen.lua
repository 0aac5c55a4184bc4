-- token, next gen or nothing
if ARGV[1] == '' or ARGV[1] ~= token then return {'not-leader'} end
if ARGV[2] == gen then return {'ok'} end
set('gen', ARGV[2], 'run', RUN, 'last', int(now))
if ARGV[2] ~= '' then -- cursors count within one gen
  local edges = call('HGETALL', EDGES)
  for i = 1, #edges, 2 do
    local e = edge_parse(edges[i + 1])
    e.cursor = 0
    edge_store(edges[i], e)
  end
end
return {'ok'}
