// Package config holds everything an operator can set: the boot configuration (one struct, [Config]) and the settings
// document of a room ([Room]).
//
// The struct is the single source: its tags carry each key's name, default, allowed values and documentation, and from
// them come the YAML file's keys, the STANCHION_… environment variables, the dotted flags, docs/reference/config.md
// and the form of the console. Precedence is flags > environment > file > defaults. [Load] is a pure function of its
// arguments and reports every problem at once, each with the place it came from and what to do about it.
//
// Tags: `json` names the key, `default` is YAML, `range` is "low..high", `enum` is "a|b", `format` names a check of
// format.go, `len` bounds a text's characters or a list's items, `secret:"yes"` hides the value in [Config.Masked],
// `hot:"yes"` marks keys that take effect without a restart, `doc` is the sentence of the reference. A key's unit is in
// its name (_s, _ms, _bytes, _per_second).
package config

// Config is the boot configuration of one process. A zero Config is not valid; [Load] makes one.
type Config struct {
	DataDir    string              `json:"data_dir" default:"./stanchion-data" len:"1..4096" doc:"Directory of the embedded stores and keys. One process at a time, held by a lock."`
	Node       string              `json:"node" format:"label?" doc:"Label of this process in logs, metrics and discovery. Empty: the host's name."`
	PublicURL  string              `json:"public_url" format:"url?" doc:"Address under which fans reach the public listener, used in links that leave the site (payment returns, e-mailed tickets). Empty: http(s)://<listeners.public.address>."`
	Prefix     string              `json:"prefix" default:"/.stanchion" format:"prefix" doc:"Path prefix of the product's own endpoints on every protected host."`
	Listeners  Listeners           `json:"listeners" doc:"Where the process listens. A listener opens only if a role of the process uses it."`
	TrustedHop []string            `json:"trusted_hops" format:"cidr" len:"0..256" hot:"yes" doc:"Networks of the proxies in front (CIDR), whose X-Forwarded-For and Forwarded headers and PROXY protocol are believed. Empty: the peer's address is the client's."`
	Stores     Stores              `json:"stores" doc:"Engines behind the program. Embedded ones exist inside one process only."`
	Upstreams  map[string]Upstream `json:"upstreams" format:"name" len:"0..256" doc:"Origins that requests are forwarded to, by name."`
	Rooms      map[string]Room     `json:"rooms" format:"name" len:"0..256" doc:"First version of each room's settings document. From the first change on, the document in the settings store is the truth."`
	Routes     []Route             `json:"routes" len:"0..1024" doc:"Which requests go where; the first match wins. A route without a room never asks for a pass."`
	Edge       Edge                `json:"edge" doc:"Limits of the edge role."`
	Core       Core                `json:"core" doc:"Orders, payments, tickets."`
	Seats      Seats               `json:"seats" doc:"Holds on seats."`
	Keys       Keys                `json:"keys" doc:"Signing keys."`
	Beacon     Beacon              `json:"beacon" doc:"Public randomness for draws of kind drand."`
	Admin      Admin               `json:"admin" doc:"The operators' console."`
	DrainS     int                 `json:"drain_timeout_s" default:"20" range:"0..3600" doc:"Longest time for a graceful stop; what has not ended by then is cut off and named in the log."`
	Log        Log                 `json:"log" doc:"Logs go to standard error."`
	Tracing    Tracing             `json:"tracing" doc:"OpenTelemetry traces over OTLP/HTTP. Off while endpoint is empty."`
	Demo       Demo                `json:"demo" doc:"Simulated fans of the demo role; other roles ignore it."`
}

// Listeners are the five ports. Only public is meant for fans.
type Listeners struct {
	Public     Listener `json:"public" default:"{address: '127.0.0.1:8080', max_body_bytes: 104857600}" doc:"Fans: protected origins, waiting pages, shop."`
	Console    Listener `json:"console" default:"{address: '127.0.0.1:9090'}" doc:"Operators' console and admin API. Off loopback only with admin.users_file and TLS."`
	Operations Listener `json:"operations" default:"{address: '127.0.0.1:9091', write_timeout_s: 120}" doc:"/healthz, /readyz, /metrics, /debug/, /config. Never reachable from outside."`
	Provider   Listener `json:"provider" default:"{address: '127.0.0.1:9092'}" doc:"Payment-provider simulator and its page."`
	Internal   Listener `json:"internal" default:"{address: '127.0.0.1:9093', max_body_bytes: 33554432}" doc:"Calls between roles that run apart. Off loopback only with mutual TLS."`
}

// Listener is one TCP port with its limits. Every limit is enforced; there is no "unlimited".
type Listener struct {
	Address       string  `json:"address" format:"address" doc:"host:port. Port 0 picks a free one and prints it."`
	ReadHeaderS   float64 `json:"read_header_timeout_s" default:"10" range:"0.1..300" doc:"Longest time for a request's head to arrive."`
	ReadS         float64 `json:"read_timeout_s" default:"60" range:"0.1..86400" doc:"Longest time for a whole request to arrive."`
	WriteS        float64 `json:"write_timeout_s" default:"60" range:"0.1..86400" doc:"Longest time for an answer to be taken by the client."`
	IdleS         float64 `json:"idle_timeout_s" default:"75" range:"0.1..3600" doc:"Keep-alive connections are closed after this much silence."`
	HeaderBytes   int     `json:"max_header_bytes" default:"16384" range:"1024..1048576" doc:"Largest request head; larger is answered 431."`
	BodyBytes     int64   `json:"max_body_bytes" default:"1048576" range:"0..1099511627776" doc:"Largest request body; larger is answered 413. A route may set its own."`
	Connections   int     `json:"max_connections" default:"10000" range:"1..1000000" doc:"Open connections; more are closed at once. Keep below the process' descriptor limit."`
	PerNetwork    int     `json:"max_connections_per_network" default:"1000" range:"1..1000000" doc:"Open connections from one client network (IPv4 /24, IPv6 /48)."`
	ProxyProtocol bool    `json:"proxy_protocol" default:"false" doc:"Expect a PROXY protocol v1 or v2 head on connections from trusted_hops."`
	TLS           TLS     `json:"tls" doc:"Serve TLS. Off while cert_file is empty."`
}

// TLS names the files of a listener's certificate. They are read again when they change.
type TLS struct {
	CertFile     string `json:"cert_file" format:"file?" doc:"PEM certificate chain."`
	KeyFile      string `json:"key_file" format:"file?" doc:"PEM private key of cert_file."`
	ClientCAFile string `json:"client_ca_file" format:"file?" doc:"PEM authorities; when set, clients must show a certificate signed by one of them."`
}

// ClientTLS is TLS as a client of an engine or origin.
type ClientTLS struct {
	Enabled    bool   `json:"enabled" default:"false" doc:"Use TLS."`
	CAFile     string `json:"ca_file" format:"file?" doc:"PEM authorities. Empty: those of the system."`
	CertFile   string `json:"cert_file" format:"file?" doc:"PEM client certificate, for mutual TLS."`
	KeyFile    string `json:"key_file" format:"file?" doc:"PEM private key of cert_file."`
	ServerName string `json:"server_name" format:"host?" doc:"Name expected in the server's certificate. Empty: the address' host."`
}

// Stores selects an engine for each kind of state.
type Stores struct {
	Rooms     RoomStore     `json:"rooms" doc:"Waiting rooms."`
	Seats     SeatStore     `json:"seats" doc:"Seats and holds."`
	Orders    OrderStore    `json:"orders" doc:"Catalog, orders, payments, tickets, outbox."`
	Bus       BusStore      `json:"bus" doc:"Events between services."`
	Settings  SettingsStore `json:"settings" doc:"Rooms' settings documents, versioned and audited."`
	Discovery Discovery     `json:"discovery" doc:"How roles that run apart find each other."`
}

// RoomStore is where waiting rooms live.
type RoomStore struct {
	Engine       string    `json:"engine" default:"embedded" enum:"embedded|redis" doc:"embedded: rooms.db in data_dir. redis: Redis 7 or Valkey; single, replicated with Sentinel, or cluster."`
	Addresses    []string  `json:"addresses" format:"address" len:"0..64" doc:"redis: servers, Sentinels or cluster nodes (host:port)."`
	SentinelName string    `json:"sentinel_master" format:"label?" doc:"redis: name of the primary at the Sentinels; addresses are then the Sentinels'."`
	Cluster      bool      `json:"cluster" default:"false" doc:"redis: addresses are nodes of a Redis Cluster."`
	MinReplicas  int       `json:"min_replicas" default:"0" range:"0..8" doc:"redis: replicas that must hold a grant before a pass leaves. 0 only for a single server with appendfsync always."`
	Username     string    `json:"username" len:"0..128" doc:"redis: ACL user."`
	PasswordFile string    `json:"password_file" format:"file?" doc:"redis: file with the password."`
	TLS          ClientTLS `json:"tls" doc:"redis: TLS."`
	TimeoutMS    int       `json:"timeout_ms" default:"500" range:"10..10000" doc:"redis: longest wait for one answer."`
}

// SeatStore is where seats live.
type SeatStore struct {
	Engine       string    `json:"engine" default:"embedded" enum:"embedded|cql" doc:"embedded: seats.db in data_dir. cql: ScyllaDB or Cassandra."`
	Addresses    []string  `json:"addresses" format:"address" len:"0..64" doc:"cql: contact points (host:port)."`
	Keyspace     string    `json:"keyspace" default:"stanchion" format:"ident" doc:"cql: keyspace."`
	Datacenter   string    `json:"datacenter" format:"label?" doc:"cql: local datacenter; requests stay in it."`
	Replication  int       `json:"replication" default:"3" range:"1..9" doc:"cql: replicas in the datacenter when the keyspace is made."`
	Username     string    `json:"username" len:"0..128" doc:"cql: user."`
	PasswordFile string    `json:"password_file" format:"file?" doc:"cql: file with the password."`
	TLS          ClientTLS `json:"tls" doc:"cql: TLS."`
	TimeoutMS    int       `json:"timeout_ms" default:"3000" range:"100..60000" doc:"cql: longest wait for one answer. Keep above the server's cas_contention_timeout."`
}

// OrderStore is where orders live.
type OrderStore struct {
	Engine      string `json:"engine" default:"embedded" enum:"embedded|postgres" doc:"embedded: orders.db in data_dir. postgres: PostgreSQL 15 or later."`
	URLFile     string `json:"url_file" format:"file?" doc:"postgres: file with the connection URL (postgres://user:password@host/db?sslmode=verify-full)."`
	Connections int    `json:"max_connections" default:"16" range:"2..1000" doc:"postgres: connections of this process."`
}

// BusStore carries events.
type BusStore struct {
	Engine       string    `json:"engine" default:"embedded" enum:"embedded|kafka" doc:"embedded: consumers read the outbox of the order store. kafka: the outbox is relayed to Kafka."`
	Addresses    []string  `json:"addresses" format:"address" len:"0..64" doc:"kafka: brokers (host:port)."`
	TopicPrefix  string    `json:"topic_prefix" format:"topic?" doc:"kafka: prefix before the topics stanchion.orders, stanchion.passes and stanchion.tickets, for shared clusters."`
	Partitions   int       `json:"partitions" default:"12" range:"1..1000" doc:"kafka: partitions of a topic when it is made."`
	Replication  int       `json:"replication" default:"3" range:"1..9" doc:"kafka: replicas of a topic when it is made."`
	Username     string    `json:"username" len:"0..128" doc:"kafka: SASL SCRAM-SHA-512 user."`
	PasswordFile string    `json:"password_file" format:"file?" doc:"kafka: file with the password."`
	TLS          ClientTLS `json:"tls" doc:"kafka: TLS."`
}

// SettingsStore keeps rooms' settings documents.
type SettingsStore struct {
	Engine string `json:"engine" default:"embedded" enum:"embedded|consul" doc:"embedded: settings.db in data_dir. consul: Consul KV of the region, watched."`
	Consul Consul `json:"consul" doc:"consul: how to reach it."`
	KVPath string `json:"prefix" default:"stanchion/settings" format:"kvpath" doc:"consul: KV path under which documents lie."`
}

// Discovery finds the internal listeners of roles that run apart.
type Discovery struct {
	Engine  string              `json:"engine" default:"static" enum:"static|consul" doc:"static: the peers below. consul: health-checked services named <prefix>-<role>."`
	Peers   map[string][]string `json:"peers" format:"role:url" len:"0..8" doc:"static: URLs of the internal listeners, by role, e.g. {core: ['https://10.0.0.5:9093']}."`
	Consul  Consul              `json:"consul" doc:"consul: how to reach it."`
	Service string              `json:"prefix" default:"stanchion" format:"name" doc:"consul: prefix of the service names."`
}

// Consul is a connection to a Consul agent.
type Consul struct {
	Address    string    `json:"address" default:"127.0.0.1:8500" format:"address" doc:"Agent (host:port), best on the same host."`
	Datacenter string    `json:"datacenter" format:"label?" doc:"Empty: the agent's own."`
	TokenFile  string    `json:"token_file" format:"file?" doc:"File with the ACL token."`
	TLS        ClientTLS `json:"tls" doc:"TLS to the agent."`
}

// Upstream is an origin.
type Upstream struct {
	Role         string    `json:"role" enum:"|core" doc:"Forward to a role of this product instead of targets."`
	Targets      []string  `json:"targets" format:"url" len:"0..256" hot:"yes" doc:"Base URLs of the origin's servers (http:// or https://)."`
	Service      string    `json:"service" format:"label?" doc:"Name of a Consul service whose healthy instances are the targets."`
	ConnectMS    int       `json:"connect_timeout_ms" default:"2000" range:"10..60000" hot:"yes" doc:"Longest time to open a connection."`
	ResponseS    float64   `json:"response_timeout_s" default:"30" range:"0.1..3600" hot:"yes" doc:"Longest wait for the head of an answer."`
	IdleS        float64   `json:"idle_timeout_s" default:"20" range:"0.1..3600" hot:"yes" doc:"Idle connections are closed after this; keep below the origin's own keep-alive time."`
	Connections  int       `json:"max_connections" default:"512" range:"1..100000" hot:"yes" doc:"Requests, and so connections, under way to all targets together; the adaptive limit stays below it."`
	StallS       float64   `json:"stall_timeout_s" default:"300" range:"1..86400" hot:"yes" doc:"Longest silence inside an answer's body; above the heartbeat of event streams."`
	HealthPath   string    `json:"health_path" format:"path?" hot:"yes" doc:"Path asked with GET; 2xx and 3xx are healthy. Empty: only passive checks."`
	HealthS      float64   `json:"health_interval_s" default:"2" range:"0.1..300" hot:"yes" doc:"Time between active checks."`
	PreserveHost bool      `json:"preserve_host" default:"true" hot:"yes" doc:"Send the fan's Host to the origin. false: the target's own."`
	TLS          ClientTLS `json:"tls" doc:"TLS to https targets."`
}

// Route sends the requests it matches to an upstream. Every condition that is given must match.
type Route struct {
	Host      string            `json:"host" format:"hostpattern?" hot:"yes" doc:"Host name, without port; *.example.org matches one more label. Empty: any."`
	Paths     []string          `json:"paths" default:"['/*']" format:"pattern" len:"1..256" hot:"yes" doc:"Exact paths, or prefixes that end in *."`
	Methods   []string          `json:"methods" format:"method" len:"0..16" hot:"yes" doc:"Methods. Empty: any."`
	Headers   map[string]string `json:"headers" format:"header" len:"0..16" hot:"yes" doc:"Headers that must be present with exactly this value; * accepts any value."`
	Upstream  string            `json:"upstream" format:"name" hot:"yes" doc:"Name of the upstream."`
	Room      string            `json:"room" format:"name?" hot:"yes" doc:"Name of the room that guards the route. Empty: no pass is ever asked for."`
	Priority  string            `json:"priority" default:"browse" enum:"finish|pay|hold|session|browse|background" hot:"yes" doc:"Class under overload, the first shed last: finish (payment under way), pay, hold, session (inside), browse, background."`
	Cost      float64           `json:"cost" default:"1" range:"0..1000" hot:"yes" doc:"What one request takes from the request budget."`
	BodyBytes int64             `json:"max_body_bytes" default:"0" range:"0..1099511627776" hot:"yes" doc:"Largest request body. 0: the listener's."`
	WebSocket bool              `json:"websocket" default:"false" hot:"yes" doc:"Allow WebSocket upgrades."`
}

// Edge bounds what one edge process lets through and keeps in memory.
type Edge struct {
	Headers          int     `json:"max_headers" default:"100" range:"10..10000" doc:"Header lines of a request; more are answered 431."`
	TargetBytes      int     `json:"max_target_bytes" default:"8192" range:"256..65536" doc:"Longest request target; longer is answered 414."`
	BodySilenceS     float64 `json:"body_silence_s" default:"10" range:"0.1..3600" doc:"Longest silence inside a request body."`
	NetworkPerSecond float64 `json:"network_per_second" default:"500" range:"0.1..10000000" hot:"yes" doc:"Requests a second from one client network (IPv4 /24, IPv6 /48)."`
	NetworkBurst     int     `json:"network_burst" default:"2000" range:"1..10000000" hot:"yes" doc:"Requests at once from one client network."`
	OutsidePerSecond float64 `json:"outside_per_second" default:"0" range:"0..10000000" hot:"yes" doc:"Requests a second without a pass, of the whole process. 0: no limit."`
	LimitKeys        int     `json:"limit_keys" default:"131072" range:"1024..16777216" doc:"Networks and sessions that each rate limit remembers; fixes its memory."`
	ParkS            float64 `json:"park_s" default:"8" range:"0.1..60" hot:"yes" doc:"Longest wait of one claim at the door before it is answered with Retry-After."`
	Inflight         int     `json:"max_inflight_per_upstream" default:"1024" range:"1..100000" hot:"yes" doc:"Ceiling over every upstream's max_connections, for this process."`
	PassesKept       int     `json:"verified_passes" default:"65536" range:"1024..16777216" doc:"Verified passes that are remembered, so that the next request of the same fan costs a look-up."`
}

// Core configures the back end.
type Core struct {
	Currency    string `json:"currency" default:"EUR" format:"currency" doc:"ISO 4217 code used where an imported event names none."`
	OrderS      int    `json:"order_pay_s" default:"900" range:"60..86400" doc:"Time to pay an order before it ends and its seats return."`
	ProviderURL string `json:"provider_url" format:"url?" doc:"Payment provider's API. Empty: the simulator of this installation."`
	WebhookFile string `json:"webhook_secret_file" format:"file?" doc:"File with the secret that signs the provider's webhooks. Empty: made in keys.dir at the first start."`
	ShopName    string `json:"shop_name" default:"Stanchion Tickets" len:"1..80" doc:"Name of the shop in its pages and on tickets."`
}

// Seats configures holds.
type Seats struct {
	HoldS   int `json:"hold_s" default:"600" range:"30..7200" doc:"How long chosen seats are held before payment."`
	ExtendS int `json:"extend_max_s" default:"900" range:"0..7200" doc:"How much longer a hold may live while its payment is under way."`
	PerHold int `json:"seats_per_hold" default:"10" range:"1..100" doc:"Seats in one hold; a pass may allow fewer."`
	Block   int `json:"block_seats" default:"250" range:"100..500" doc:"Seats that change together in one conditional write, fixed when a performance is created."`
}

// Keys configures the signing keys.
type Keys struct {
	Dir string `json:"dir" format:"file?" doc:"Directory of the key files, the same content on all nodes, mode 0600. Empty: data_dir/keys, made at the first start."`
}

// Beacon is the drand network whose rounds decide draws. The defaults are drand's quicknet.
type Beacon struct {
	URLs     []string `json:"urls" default:"['https://api.drand.sh', 'https://drand.cloudflare.com']" format:"url" len:"0..16" hot:"yes" doc:"Relays, asked in turn. Every round is verified against public_key, so no relay is trusted."`
	Chain    string   `json:"chain" default:"52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971" format:"hex32" doc:"Chain hash."`
	TimeoutS float64  `json:"timeout_s" default:"5" range:"0.1..60" hot:"yes" doc:"Longest wait for one relay."`
}

// Admin configures the console.
type Admin struct {
	UsersFile string `json:"users_file" format:"file?" doc:"File of the operators, roles and password hashes. Empty: loopback only, with a start token in the printed URL."`
	SessionS  int    `json:"session_s" default:"43200" range:"60..604800" doc:"Life of an operator's session."`
	LiveMS    int    `json:"live_interval_ms" default:"1000" range:"250..60000" doc:"Time between two pictures of a room in the console."`
}

// Log configures the logs.
type Log struct {
	Level        string  `json:"level" default:"info" enum:"debug|info|warn|error" hot:"yes" doc:"Lowest level written."`
	Format       string  `json:"format" default:"text" enum:"text|json" doc:"text for people, json for machines."`
	Access       string  `json:"access" default:"off" enum:"off|json|combined" hot:"yes" doc:"Access log of the public listener."`
	AccessSample float64 `json:"access_sample" default:"1" range:"0..1" hot:"yes" doc:"Share of successful requests in the access log; others are always in it."`
}

// Tracing configures OpenTelemetry.
type Tracing struct {
	Endpoint    string  `json:"endpoint" format:"url?" doc:"OTLP/HTTP collector, e.g. http://127.0.0.1:4318. Empty: no tracing."`
	SampleRatio float64 `json:"sample_ratio" default:"0.01" range:"0..1" doc:"Share of traces begun here; a sampled parent is always followed."`
	TimeoutS    float64 `json:"timeout_s" default:"5" range:"0.1..60" doc:"Longest wait for the collector."`
}

// Demo describes the crowd of the demo role.
type Demo struct {
	Fans      int     `json:"fans" default:"500" range:"0..1000000" doc:"Simulated fans in all."`
	PerSecond float64 `json:"arrivals_per_second" default:"20" range:"0.01..100000" doc:"How fast they arrive after the opening."`
	Lobby     float64 `json:"lobby_share" default:"0.3" range:"0..1" doc:"Share that comes before the opening."`
	Absent    float64 `json:"absent_share" default:"0.3" range:"0..1" doc:"Share that is gone when called."`
	NoScript  float64 `json:"no_script_share" default:"0.08" range:"0..1" doc:"Share that follows Refresh headers instead of running the page's script."`
	Buy       float64 `json:"buy_share" default:"0.7" range:"0..1" doc:"Share of those let in that buys."`
	Seed      uint64  `json:"seed" default:"1" doc:"Seed of the crowd's behaviour."`
	Stadium   bool    `json:"stadium" default:"true" doc:"Also import a stadium of 60,000 seats in the background."`
}
