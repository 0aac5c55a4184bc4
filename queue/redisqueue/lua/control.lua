-- known settings, known forecast
return {'ok', control(ARGV[1], ARGV[2])}
