-- gen, token, line, published part as JSON
local key = P .. 'line:' .. ARGV[3]
if call('EXISTS', key) == 0 then return {'no-line'} end
call('HSET', key, 'published', ARGV[4])
return {'ok'}
