-- Scripts that begin with this file are the leader's: ARGV[1] gen, ARGV[2] token.
if ARGV[1] == '' or ARGV[1] ~= gen then return gen_error end
if ARGV[2] == '' or ARGV[2] ~= token then return {'not-leader'} end
