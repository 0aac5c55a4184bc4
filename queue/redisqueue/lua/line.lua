-- line
local r = call('HMGET', P .. 'line:' .. ARGV[1], 'published', 'lanes', 'honours')
if not r[1] then return {'no-line'} end
return {'ok', r[1], r[3], line_fields(ARGV[1], tonumber(r[2]))}
