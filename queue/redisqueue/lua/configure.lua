-- gen, token, settings as JSON, their digest, cap, gap, burst, first, enter, idle, stay, grace, return, late share, late floor,
-- network share, network floor, pause; milliseconds and sessions
set('settings', ARGV[3], 'dig', ARGV[4], 'cap', ARGV[5], 'gap', ARGV[6], 'burst', ARGV[7], 'first', ARGV[8], 'enter', ARGV[9],
  'idle', ARGV[10], 'stay', ARGV[11], 'grace', ARGV[12], 'return', ARGV[13], 'lshare', ARGV[14], 'lfloor', ARGV[15],
  'nshare', ARGV[16], 'nfloor', ARGV[17], 'pause', ARGV[18], 'last', int(now))
return {'ok'}
