package config

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// validate checks what one key cannot tell alone. Warnings name what is allowed but easily a mistake.
func validate(p *Problems, sources map[string]Source, c Config) (warnings []string) {
	at := func(key string) Source { return sourceOf(sources, key) }
	warnings = append(warnings, validateListeners(p, at, c)...)
	validateStores(p, at, c.Stores)
	for _, name := range slices.Sorted(maps.Keys(c.Upstreams)) {
		validateUpstream(p, at, name, c)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Rooms)) {
		validateRoom(p, sources, name, c.Rooms[name])
	}
	warnings = append(warnings, validateRoutes(p, at, c)...)
	return warnings
}

// listener is one entry of Listeners with its key.
type listener struct {
	name string
	Listener
}

// all lists the listeners by name, in the order of the file.
func (l Listeners) all() []listener {
	return []listener{{"public", l.Public}, {"console", l.Console}, {"operations", l.Operations}, {"provider", l.Provider}, {"internal", l.Internal}}
}

func validateListeners(p *Problems, at func(string) Source, c Config) (warnings []string) {
	all := c.Listeners.all()
	for i, l := range all {
		key := "listeners." + l.name
		for _, other := range all[:i] {
			if overlap(l.Address, other.Address) {
				p.add(Problem{Source: at(key + ".address"), Key: key + ".address", Value: show(l.Address), What: "is also the address of listeners." + other.name,
					Do: "give one of them another port"})
			}
		}
		if (l.TLS.CertFile == "") != (l.TLS.KeyFile == "") {
			p.add(Problem{Source: pairSource(at, key+".tls"), Key: key + ".tls", What: "has a certificate without a key, or a key without a certificate", Do: "set both cert_file and key_file"})
		}
		if l.TLS.ClientCAFile != "" && l.TLS.CertFile == "" {
			p.add(Problem{Source: at(key + ".tls.client_ca_file"), Key: key + ".tls.client_ca_file", Value: show(l.TLS.ClientCAFile), What: "needs a certificate of the listener's own",
				Do: "set cert_file and key_file"})
		}
		if l.ReadHeaderS > l.ReadS {
			p.add(Problem{Source: at(key + ".read_timeout_s"), Key: key + ".read_timeout_s", Value: number(l.ReadS), What: fmt.Sprintf("is shorter than read_header_timeout_s (%s)", number(l.ReadHeaderS)),
				Do: "raise it, or lower the other"})
		}
		if l.PerNetwork > l.Connections && at(key+".max_connections_per_network").Name != sourceDefault {
			p.add(Problem{Source: at(key + ".max_connections_per_network"), Key: key + ".max_connections_per_network", Value: strconv.Itoa(l.PerNetwork),
				What: fmt.Sprintf("is more than max_connections (%d)", l.Connections), Do: "lower it"})
		}
		if l.ProxyProtocol && len(c.TrustedHop) == 0 {
			p.add(Problem{Source: at(key + ".proxy_protocol"), Key: key + ".proxy_protocol", Value: "true", What: "would believe nobody", Do: "name the proxies in trusted_hops"})
		}
	}
	in, con, pub := c.Listeners.Internal, c.Listeners.Console, c.Listeners.Public
	if !loopback(in.Address) && (in.TLS.CertFile == "" || in.TLS.ClientCAFile == "") {
		p.add(Problem{Source: at("listeners.internal.address"), Key: "listeners.internal.address", Value: show(in.Address), What: "leaves this machine without mutual TLS",
			Do: "set listeners.internal.tls.cert_file, key_file and client_ca_file, or stay on 127.0.0.1"})
	}
	if !loopback(con.Address) && (con.TLS.CertFile == "" || c.Admin.UsersFile == "") {
		p.add(Problem{Source: at("listeners.console.address"), Key: "listeners.console.address", Value: show(con.Address), What: "opens the console beyond this machine without users and TLS",
			Do: "set admin.users_file and listeners.console.tls, or stay on 127.0.0.1 and reach it through a tunnel"})
	}
	if !loopback(pub.Address) && pub.TLS.CertFile == "" && len(c.TrustedHop) == 0 {
		warnings = append(warnings, "listeners.public is reachable from outside without TLS, and trusted_hops is empty: places and passes travel in the clear, and behind a proxy all fans share its address")
	}
	if ops := c.Listeners.Operations.Address; !loopback(ops) {
		warnings = append(warnings, "listeners.operations ("+ops+") leaves this machine: keep metrics, profiles and configuration away from the public")
	}
	return warnings
}

func number(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

// overlap tells whether two listeners cannot both be opened. Wrong addresses were reported already.
func overlap(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	return hostA == hostB || wildcard(hostA) || wildcard(hostB) || loopback(a) && hostA == "localhost" || loopback(b) && hostB == "localhost"
}

func wildcard(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return true // reported as a wrong address
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func validateStores(p *Problems, at func(string) Source, s Stores) {
	needs := func(store, engine, key string, empty bool, do string) {
		if empty {
			path := "stores." + store + "." + key
			p.add(Problem{Source: at("stores." + store + ".engine"), Key: path, What: "is needed by engine " + engine, Do: do})
		}
	}
	if r := s.Rooms; r.Engine == "redis" {
		needs("rooms", "redis", "addresses", len(r.Addresses) == 0, "name the servers as host:port")
		if r.SentinelName != "" && r.Cluster {
			p.add(Problem{Source: at("stores.rooms.cluster"), Key: "stores.rooms.cluster", Value: "true", What: "cannot go with sentinel_master", Do: "choose one"})
		}
		if len(r.Addresses) > 1 && r.SentinelName == "" && !r.Cluster {
			p.add(Problem{Source: at("stores.rooms.addresses"), Key: "stores.rooms.addresses", Value: show(strings.Join(r.Addresses, ", ")), What: "names several servers that are neither Sentinels nor a cluster",
				Do: "set sentinel_master or cluster, or name one server"})
		}
		if r.SentinelName != "" && r.MinReplicas == 0 {
			p.add(Problem{Source: at("stores.rooms.min_replicas"), Key: "stores.rooms.min_replicas", Value: "0", What: "would lose grants when Sentinel fails over", Allowed: "1 to 8 with sentinel_master",
				Do: "set it to the number of replicas that may be promoted"})
		}
	}
	if s.Seats.Engine == "cql" {
		needs("seats", "cql", "addresses", len(s.Seats.Addresses) == 0, "name contact points as host:port")
		needs("seats", "cql", "datacenter", s.Seats.Datacenter == "", "name the local datacenter (nodetool status shows it)")
	}
	if s.Orders.Engine == "postgres" {
		needs("orders", "postgres", "url_file", s.Orders.URLFile == "", "put the connection URL in a file and name it")
	}
	if s.Bus.Engine == "kafka" {
		needs("bus", "kafka", "addresses", len(s.Bus.Addresses) == 0, "name brokers as host:port")
	}
	for _, c := range []struct {
		key      string
		user     string
		password string
	}{{"stores.rooms", s.Rooms.Username, s.Rooms.PasswordFile}, {"stores.seats", s.Seats.Username, s.Seats.PasswordFile}, {"stores.bus", s.Bus.Username, s.Bus.PasswordFile}} {
		if c.user != "" && c.password == "" {
			p.add(Problem{Source: at(c.key + ".username"), Key: c.key + ".password_file", What: "is needed with a username", Do: "put the password in a file and name it"})
		}
	}
	for _, c := range []struct {
		key string
		tls ClientTLS
	}{{"stores.rooms.tls", s.Rooms.TLS}, {"stores.seats.tls", s.Seats.TLS}, {"stores.bus.tls", s.Bus.TLS}, {"stores.settings.consul.tls", s.Settings.Consul.TLS}, {"stores.discovery.consul.tls", s.Discovery.Consul.TLS}} {
		validateClientTLS(p, at, c.key, c.tls)
	}
	for _, role := range slices.Sorted(maps.Keys(s.Discovery.Peers)) {
		if s.Discovery.Engine != "static" {
			p.add(Problem{Source: at("stores.discovery.peers." + role), Key: "stores.discovery.peers." + role, What: "is only used by engine static", Do: "drop it, or set stores.discovery.engine: static"})
		}
	}
}

// pairSource is where the given one of a certificate and a key was said.
func pairSource(at func(string) Source, key string) Source {
	if src := at(key + ".cert_file"); src.Name != sourceDefault {
		return src
	}
	return at(key + ".key_file")
}

func validateClientTLS(p *Problems, at func(string) Source, key string, t ClientTLS) {
	if (t.CertFile == "") != (t.KeyFile == "") {
		p.add(Problem{Source: pairSource(at, key), Key: key, What: "has a certificate without a key, or a key without a certificate", Do: "set both cert_file and key_file"})
	}
}

func validateUpstream(p *Problems, at func(string) Source, name string, c Config) {
	key, u := "upstreams."+name, c.Upstreams[name]
	given := 0
	for _, is := range []bool{u.Role != "", len(u.Targets) > 0, u.Service != ""} {
		if is {
			given++
		}
	}
	if given != 1 {
		p.add(Problem{Source: at(key), Key: key, What: fmt.Sprintf("has %d of role, targets and service", given), Allowed: "exactly one", Do: "say where the origin is in one way"})
	}
	if u.Service != "" && c.Stores.Discovery.Engine != "consul" {
		p.add(Problem{Source: at(key + ".service"), Key: key + ".service", Value: show(u.Service), What: "needs stores.discovery.engine: consul", Do: "set it, or list targets"})
	}
	validateClientTLS(p, at, key+".tls", u.TLS)
}

func validateRoutes(p *Problems, at func(string) Source, c Config) (warnings []string) {
	if len(c.Routes) == 0 {
		warnings = append(warnings, "routes is empty: an edge answers every request with 404")
	}
	used := map[string]bool{}
	for i, r := range c.Routes {
		key := fmt.Sprintf("routes[%d]", i)
		switch _, known := c.Upstreams[r.Upstream]; {
		case r.Upstream == "":
			p.add(Problem{Source: at(key), Key: key + ".upstream", What: "is missing", Do: "name one of: " + list(slices.Sorted(maps.Keys(c.Upstreams)))})
		case !known:
			p.add(Problem{Source: at(key + ".upstream"), Key: key + ".upstream", Value: show(r.Upstream), What: "is not an upstream",
				Do: cmpOr(nearest(r.Upstream, slices.Sorted(maps.Keys(c.Upstreams))), "name one of: "+list(slices.Sorted(maps.Keys(c.Upstreams))))})
		}
		if r.Room == "" {
			continue
		}
		used[r.Room] = true
		room, known := c.Rooms[r.Room]
		if !known {
			p.add(Problem{Source: at(key + ".room"), Key: key + ".room", Value: show(r.Room), What: "is not a room",
				Do: cmpOr(nearest(r.Room, slices.Sorted(maps.Keys(c.Rooms))), "name one of: "+list(slices.Sorted(maps.Keys(c.Rooms))))})
			continue
		}
		if r.Host != "" && room.Host != "" && !strings.EqualFold(r.Host, room.Host) {
			p.add(Problem{Source: at(key + ".host"), Key: key + ".host", Value: show(r.Host), What: "is not the host of room " + r.Room + " (" + room.Host + ")", Do: "a room has one host: make a second room, or correct one of them"})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Rooms)) {
		if !used[name] {
			warnings = append(warnings, "rooms."+name+" guards nothing: no route names it")
		}
	}
	return warnings
}

func list(names []string) string {
	if len(names) == 0 {
		return "(none is configured)"
	}
	return strings.Join(names, ", ")
}

// validateRoom checks a room's document in itself.
func validateRoom(p *Problems, sources map[string]Source, name string, r Room) {
	base := "rooms." + name
	at := func(key string) Source { return sourceOf(sources, key) }
	bad := func(key, value, what, allowed, do string) {
		p.add(Problem{Source: at(base + "." + key), Key: base + "." + key, Value: value, What: what, Allowed: allowed, Do: do})
	}
	if r.IdleS > r.StayMaxS {
		bad("idle_s", strconv.Itoa(r.IdleS), fmt.Sprintf("is longer than stay_max_s (%d)", r.StayMaxS), "", "lower it, or raise stay_max_s")
	}
	if r.FirstLeaseS > r.IdleS {
		bad("first_lease_s", strconv.Itoa(r.FirstLeaseS), fmt.Sprintf("is longer than idle_s (%d)", r.IdleS), "", "lower it, or raise idle_s")
	}
	switch r.Who {
	case "account":
		if r.Account.JWKSURL == "" && r.Account.JWKSFile == "" {
			bad("account", "", "has no keys to check tokens with", "", "set jwks_url or jwks_file")
		}
		if r.Account.Cookie == "" && r.Account.Header == "" {
			bad("account", "", "does not say where the token is", "", "set cookie or header")
		}
	case "invite", "presale":
		if len(r.Codes.SHA256) == 0 && r.Codes.File == "" {
			bad("codes", "", "is empty while who is "+r.Who, "", "list the codes' SHA-256, or name a file")
		}
	case "token":
		if r.PrivateToken.IssuerURL == "" {
			bad("token.issuer_url", "", "is missing while who is token", "", "name the issuer")
		}
	}
	if len(r.Codes.SHA256) > 0 && r.Codes.File != "" {
		bad("codes", "", "has both a list and a file", "", "keep one")
	}
	seen := map[string]bool{}
	for i, lane := range r.Lanes {
		key := fmt.Sprintf("lanes[%d]", i)
		switch {
		case lane.Name == "":
			bad(key+".name", "", "is missing", "", "name the lane")
		case seen[lane.Name]:
			bad(key+".name", show(lane.Name), "is given twice", "", "rename one")
		}
		seen[lane.Name] = true
		if lane.Code && len(r.Codes.SHA256) == 0 && r.Codes.File == "" {
			bad(key+".code", "true", "asks for a code, and the room has none", "", "fill codes, or drop it")
		}
	}
	if len(r.Lanes) > 0 && r.Lanes[0].Code {
		bad("lanes[0].code", "true", "would leave no lane for fans without a code", "", "put the general lane first")
	}
	o := r.Opening
	opens := o.OpensAt != "" || o.OpensInS > 0
	if o.OpensAt != "" && o.OpensInS > 0 {
		bad("opening.opens_in_s", strconv.Itoa(o.OpensInS), "cannot go with opens_at", "", "keep one")
	}
	if o.Lobby && !opens {
		bad("opening.lobby", "true", "needs a time of opening", "", "set opening.opens_at")
	}
	if o.Draw.Kind == "announced" && o.Draw.Source == "" {
		bad("opening.draw.source", "", "is missing while kind is announced", "", "say which public number decides, published where and when")
	}
	if o.Draw.Kind != "drand" && o.Draw.Round != 0 {
		bad("opening.draw.round", strconv.FormatUint(o.Draw.Round, 10), "is only used by kind drand", "", "drop it, or set kind: drand")
	}
}

// storeUsers says which roles open which store.
var storeUsers = map[Role][]string{
	EdgeRole:      {"rooms"},
	QueueRole:     {"rooms", "settings"},
	CoreRole:      {"orders", "bus"},
	InventoryRole: {"seats"},
	AdminRole:     {"settings"},
}

// CheckRoles tells whether a process with these roles, and only these, can run on c: embedded stores exist inside one
// process, and roles elsewhere must be findable. The error is a [*Problems].
func (c Config) CheckRoles(r Report, roles ...Role) error {
	var p Problems
	has := func(role Role) bool { return slices.Contains(roles, role) }
	engines := map[string]string{"rooms": c.Stores.Rooms.Engine, "seats": c.Stores.Seats.Engine, "orders": c.Stores.Orders.Engine, "bus": c.Stores.Bus.Engine, "settings": c.Stores.Settings.Engine}
	shared := map[string]string{"rooms": "redis", "seats": "cql", "orders": "postgres", "bus": "kafka", "settings": "consul"}
	whole := !slices.ContainsFunc(AllRoles(), func(role Role) bool { return !has(role) })
	protect := has(EdgeRole) && has(QueueRole) && has(AdminRole) && !has(CoreRole) && !has(InventoryRole)
	if !whole && !protect {
		told := map[string]bool{}
		for _, role := range roles {
			for _, store := range storeUsers[role] {
				if engines[store] != "embedded" || told[store] {
					continue
				}
				told[store] = true
				key := "stores." + store + ".engine"
				p.add(Problem{Source: r.Source(key), Key: key, Value: show("embedded"), What: "exists inside one process only, and role " + string(role) + " runs apart from others",
					Do: "set it to " + shared[store] + ", or run stanchion all"})
			}
		}
	}
	needs := map[Role]string{}
	if has(EdgeRole) {
		for _, name := range slices.Sorted(maps.Keys(c.Upstreams)) {
			if c.Upstreams[name].Role == string(CoreRole) {
				needs[CoreRole] = "upstreams." + name + ".role"
			}
		}
	}
	if has(CoreRole) {
		needs[InventoryRole] = "role core, which books seats there"
		needs[QueueRole] = "role core, which reports its health and stock there"
	}
	for _, role := range slices.Sorted(maps.Keys(needs)) {
		if !has(role) && c.Stores.Discovery.Engine == "static" && len(c.Stores.Discovery.Peers[string(role)]) == 0 {
			key := "stores.discovery.peers." + string(role)
			p.add(Problem{Source: r.Source("stores.discovery.engine"), Key: key, What: "is needed by " + needs[role], Do: "list the URLs of its internal listeners, or set stores.discovery.engine: consul"})
		}
	}
	return p.err()
}

// CheckOpening refuses keys that only the demo may use.
func (c Config) CheckOpening(r Report) error {
	var p Problems
	for _, name := range slices.Sorted(maps.Keys(c.Rooms)) {
		if n := c.Rooms[name].Opening.OpensInS; n > 0 {
			key := "rooms." + name + ".opening.opens_in_s"
			p.add(Problem{Source: r.Source(key), Key: key, Value: strconv.Itoa(n), What: "is for the demo only: after a restart nobody could say when the room opens", Do: "set opening.opens_at to a time"})
		}
	}
	return p.err()
}
