-- What the server says about its replicas.
return call('INFO', 'replication')
