-- token
if ARGV[1] == '' or ARGV[1] ~= token then return {'not-leader'} end
set('beat', int(now), 'last', int(now))
return {'ok'}
