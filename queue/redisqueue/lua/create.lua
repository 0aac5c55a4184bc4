-- Makes the control record.
call('HSETNX', C, 'made', 1)
return {'ok'}
