-- old token, new token
local old, new = ARGV[1], ARGV[2]
if token ~= new and (token ~= old or now - num(hget('beat')) <= 1500) then return {'not-leader'} end
set('token', new, 'beat', int(now), 'last', int(now))
return {'ok'}
