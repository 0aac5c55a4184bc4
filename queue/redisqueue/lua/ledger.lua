-- line, lane, chunk
if call('EXISTS', P .. 'line:' .. ARGV[1]) == 0 then return {'no-line'} end
return {'ok', call('GET', P .. 'led:' .. ARGV[1] .. ':' .. ARGV[2] .. ':' .. ARGV[3])}
