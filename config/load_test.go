package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// files is a readFile that knows these names only.
func files(known map[string]string) func(string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		text, ok := known[name]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		return []byte(text), nil
	}
}

// load loads one file, c.yaml, with flags and variables.
func load(yaml string, env []string, flags ...string) (Config, Report, error) {
	return Load(append([]string{"--config=c.yaml"}, flags...), env, files(map[string]string{"c.yaml": yaml}))
}

func TestDefaultsLoad(t *testing.T) {
	cfg, report, err := Load(nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if report.File != "" || len(report.Sources) != 0 || !strings.HasPrefix(report.Digest, "sha256:") {
		t.Errorf("report %+v", report)
	}
	if got := cfg.Listeners.Public.Address; got != "127.0.0.1:8080" {
		t.Errorf("public listener at %q", got)
	}
	if cfg.Listeners.Console.IdleS != 75 || cfg.Listeners.Public.BodyBytes != 100<<20 || cfg.Listeners.Console.BodyBytes != 1<<20 {
		t.Errorf("listeners %+v", cfg.Listeners)
	}
}

func TestExamplesAreValid(t *testing.T) {
	runs := map[string][][]Role{
		"demo.yaml":    {append(AllRoles(), PSPSimulator)},
		"protect.yaml": {ProtectRoles(), AllRoles()},
		"redis.yaml":   {{EdgeRole}, {QueueRole}},
		"split.yaml":   {{EdgeRole}, {QueueRole}, {CoreRole}, {InventoryRole}, {AdminRole}, {PSPSimulator}, AllRoles()},
	}
	entries, err := os.ReadDir("examples")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := e.Name()
		cfg, report, err := Load([]string{"--config", path.Join("examples", name)}, nil, os.ReadFile)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(report.Warnings) > 0 {
			t.Errorf("%s warns: %q", name, report.Warnings)
		}
		if len(runs[name]) == 0 {
			t.Errorf("%s: this test does not say who can run on it", name)
		}
		for _, roles := range runs[name] {
			if err := cfg.CheckRoles(report, roles...); err != nil {
				t.Errorf("%s as %v: %v", name, roles, err)
			}
		}
	}
}

func TestBases(t *testing.T) {
	demo, err := DemoBase()
	if err != nil {
		t.Fatal(err)
	}
	protect, err := ProtectBase("http://127.0.0.1:9000/")
	if err != nil {
		t.Fatal(err)
	}
	for _, base := range []Base{demo, protect, AllBase()} {
		if _, _, err := LoadOver(base, nil, nil, nil); err != nil {
			t.Errorf("%s: %v", base.Name, err)
		}
	}
	cfg, report, err := LoadOver(protect, []string{"--rooms.main.cap=7"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := cfg.Upstreams["origin"].Targets; !slices.Equal(got, []string{"http://127.0.0.1:9000"}) || cfg.Routes[0].Room != "main" || cfg.Rooms["main"].Cap != 7 {
		t.Errorf("--protect made %+v %+v", cfg.Upstreams, cfg.Routes)
	}
	if got := report.Source("rooms.main.cap").String(); got != "--rooms.main.cap" {
		t.Errorf("cap comes from %s", got)
	}
	if got := report.Source("rooms.main.title").String(); got != "--protect:4" {
		t.Errorf("title comes from %s", got)
	}
	for target, want := range map[string]string{
		"127.0.0.1:9000":          "names no origin",
		"ftp://a/":                "names no origin",
		"http://":                 "names no origin",
		"http://u:secret@a.b":     "carries a user or password",
		"http://a/path":           "has a path",
		"http://a\"]}\nrooms: {}": "names no origin",
	} {
		_, err := ProtectBase(target)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("--protect %q: %v, want %q", target, err, want)
		}
	}
}

// TestRefusals holds the words of every refusal: they are what an operator sees at three in the morning.
func TestRefusals(t *testing.T) {
	refused := func(yaml string, env, flags []string, want ...string) {
		t.Helper()
		_, report, err := load(yaml, env, flags...)
		var p *Problems
		if !errors.As(err, &p) {
			t.Errorf("accepted: %q %q %q (%v)", yaml, env, flags, err)
			return
		}
		if report.Digest != "" {
			t.Errorf("a refused configuration has a digest")
		}
		var got []string
		for _, one := range p.List {
			got = append(got, one.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q %q %q\n got: %s\nwant: %s", yaml, env, flags, strings.Join(got, "\n      "), strings.Join(want, "\n      "))
		}
	}
	file := func(yaml string, want ...string) { t.Helper(); refused(yaml, nil, nil, want...) }
	env := func(variable string, want ...string) { t.Helper(); refused("", []string{variable}, nil, want...) }
	flag := func(flag string, want ...string) { t.Helper(); refused("", nil, []string{flag}, want...) }

	// Keys.
	file("listners: {}", `c.yaml:1: listners: is not a known key; did you mean "listeners"?`)
	file("\nrooms:\n  a:\n    cup: 3", `c.yaml:4: rooms.a.cup: is not a known key; did you mean "cap"?`)
	file("tracing: {xyzzyxyzzy: 1}", `c.yaml:1: tracing.xyzzyxyzzy: is not a known key; known here: endpoint, sample_ratio, timeout_s`)
	file("node: a\nlog:\n  level: info\nnode: b", `c.yaml:4: node: is given twice, first at c.yaml:1; keep one`)
	file("data-dir: x", `c.yaml:1: data-dir: is not a known key; did you mean "data_dir"?`)
	file("rooms: {Main: {}}", `c.yaml:1: rooms.Main: is not an allowed name; allowed: a-z, 0-9 and -, 1 to 32 characters; rename it`)
	file("stores: {discovery: {peers: {kitchen: [http://a]}}}", `c.yaml:1: stores.discovery.peers.kitchen: is not an allowed name; allowed: edge, queue, core, inventory, admin or psp-simulator; rename it`)
	env("STANCHION_LISTENER_PUBLIC_ADDRESS=x", `STANCHION_LISTENER_PUBLIC_ADDRESS: names no key; did you mean "STANCHION_LISTENERS_PUBLIC_ADDRESS"?`)
	env("STANCHION_XYZZY_XYZZY_XYZZY=x", `STANCHION_XYZZY_XYZZY_XYZZY: names no key; see the reference for all keys, or unset it`)
	flag("--log.levle=info", `--log.levle: log.levle: is not a known key; did you mean "level"?`)
	flag("--log.level.x=info", `--log.level.x: log.level.x: is not a known key; log.level is a text`)
	flag("--routes.0.room=a", `--routes.0.room: routes.0: names no entry of a list of 0; count from 0, or give the whole list as YAML`)
	flag("--rooms.A.cap=1", `--rooms.A.cap: rooms.A: is not an allowed name; allowed: a-z, 0-9 and -, 1 to 32 characters; rename it`)

	// Flags.
	refused("", nil, []string{"--set", "log.level"}, `--set: has no =; write --set key=value`)
	refused("", nil, []string{"--node"}, `--node: has no value; write --node=value`)
	refused("", nil, []string{"serve"}, `command line: does not understand "serve"; write flags as --key=value`)

	// Kinds.
	file("log: info", `c.yaml:1: log: is a single value; allowed: a block of keys; see the reference of this key`)
	file("node: {a: b}", `c.yaml:1: node: is a block of keys; allowed: a text; put quotes around a text with a colon in it`)
	refused("rooms: {a: {}, a-outage: {}}", []string{"STANCHION_ROOMS_A_OUTAGE_MODE=x"}, nil, `STANCHION_ROOMS_A_OUTAGE_MODE: could mean rooms.a.outage_mode or rooms.a-outage.mode; use a flag or the file`)
	file("trusted_hops: 10.0.0.0/8", `c.yaml:1: trusted_hops: is a single value; allowed: a list of texts; see the reference of this key`)
	file("rooms: [a]", `c.yaml:1: rooms: is a list; allowed: a block of named entries; see the reference of this key`)
	file("drain_timeout_s: '20'", `c.yaml:1: drain_timeout_s = "20": is a text where a number is expected; allowed: 0 to 3600; write it without quotes`)
	file("drain_timeout_s: 20s", `c.yaml:1: drain_timeout_s = "20s": is not a whole number; allowed: 0 to 3600; write digits only; the unit is in the key's name`)
	file("drain_timeout_s: 0.5", `c.yaml:1: drain_timeout_s = "0.5": is not a whole number; allowed: 0 to 3600; write digits only; the unit is in the key's name`)
	file("drain_timeout_s:", `c.yaml:1: drain_timeout_s: has no value; allowed: 0 to 3600; give one, or drop the key to have its default`)
	file("demo: {seed: -1}", `c.yaml:1: demo.seed = "-1": is not a whole number; allowed: 0 to 18446744073709551615; write digits only`)
	file("demo: {absent_share: .nan}", `c.yaml:1: demo.absent_share = ".nan": is not a number; allowed: 0 to 1; write it with a decimal point; the unit is in the key's name`)
	file("demo: {stadium: yes}", `c.yaml:1: demo.stadium = "yes": is neither true nor false; allowed: true, false; write true or false`)
	file("node: !!binary eA==", `c.yaml:1: node: uses a YAML anchor, alias or tag; write the value out`)
	file("node: &x a", `c.yaml:1: node: uses a YAML anchor, alias or tag; write the value out`)

	// Values.
	file("drain_timeout_s: 3601", `c.yaml:1: drain_timeout_s = "3601": is out of range; allowed: 0 to 3600; choose a value in it`)
	env("STANCHION_DRAIN_TIMEOUT_S=-1", `STANCHION_DRAIN_TIMEOUT_S: drain_timeout_s = "-1": is out of range; allowed: 0 to 3600; choose a value in it`)
	file("demo: {absent_share: 1.01}", `c.yaml:1: demo.absent_share = "1.01": is out of range; allowed: 0 to 1; choose a value in it`)
	file("log: {level: inf}", `c.yaml:1: log.level = "inf": is not one of the choices; allowed: debug, info, warn, error; did you mean "info"?`)
	file("log: {level: verbose-please}", `c.yaml:1: log.level = "verbose-please": is not one of the choices; allowed: debug, info, warn, error; choose one`)
	flag("--listeners.public.address=8080", `--listeners.public.address: listeners.public.address = "8080": is not acceptable; allowed: host:port; correct it`)
	flag("--listeners.public.address=127.0.0.1:99999", `--listeners.public.address: listeners.public.address = "127.0.0.1:99999": is not acceptable; allowed: host:port; correct it`)
	flag("--trusted_hops=10.0.0.0/8,10.0.0.1", `--trusted_hops: trusted_hops[1] = "10.0.0.1": is not acceptable; allowed: network as a.b.c.d/n or IPv6; correct it`)
	file("public_url: https://user:hunter2@a.example", `c.yaml:1: public_url: carries a user or password; allowed: http:// or https:// URL without user, password, query or fragment, or empty; keep secrets in files of their own`)
	file("rooms: {a: {codes: {sha256: [abc]}}}", `c.yaml:1: rooms.a.codes.sha256[0]: is not acceptable; allowed: 64 hexadecimal digits; correct it`)
	file("rooms: {a: {message: "+strings.Repeat("x", 281)+"}}", `c.yaml:1: rooms.a.message = "`+strings.Repeat("x", 64)+`…": has 281 characters; allowed: 0 to 280 characters; shorten or complete it`)
	file(`rooms: {a: {message: "a\u0007b"}}`, `c.yaml:1: rooms.a.message = "a\ab": has control characters or is not UTF-8; allowed: 0 to 280 characters; remove them`)
	file("upstreams: {a: {targets: [http://a]}}\nroutes: [{paths: [], upstream: a}]", `c.yaml:2: routes[0].paths: has 0 entries; allowed: 1 to 256; change the list`)

	// Files.
	refused("", nil, []string{"--config=missing.yaml"}, `--config: cannot read "missing.yaml": file does not exist; check the path and its permissions`)
	file("a: [", `c.yaml:1: is not valid YAML: sequence end token ']' not found; correct the YAML`)
	file("node: a\n---\nnode: b", `c.yaml:3: holds more than one YAML document; keep one, without --- between parts`)
	file(strings.Repeat("[", 100), `c.yaml: is not valid YAML: nested 100 deep, at most 32; correct the YAML`)
	file(strings.Repeat("#", MaxFileBytes+1), `c.yaml: is 1048577 bytes long; allowed: at most 1048576 bytes; check that it is the right file`)

	// Listeners together.
	file("listeners:\n  console: {address: '127.0.0.1:8080'}", `c.yaml:2: listeners.console.address = "127.0.0.1:8080": is also the address of listeners.public; give one of them another port`)
	file("trusted_hops: [10.0.0.0/8]\nlisteners:\n  public: {address: '0.0.0.0:9090'}", `default: listeners.console.address = "127.0.0.1:9090": is also the address of listeners.public; give one of them another port`)
	file("listeners: {public: {tls: {cert_file: a.pem}}}", `c.yaml:1: listeners.public.tls: has a certificate without a key, or a key without a certificate; set both cert_file and key_file`)
	file("listeners: {public: {tls: {client_ca_file: a.pem}}}", `c.yaml:1: listeners.public.tls.client_ca_file = "a.pem": needs a certificate of the listener's own; set cert_file and key_file`)
	file("listeners: {public: {read_timeout_s: 5}}", `c.yaml:1: listeners.public.read_timeout_s = 5: is shorter than read_header_timeout_s (10); raise it, or lower the other`)
	file("listeners: {public: {max_connections: 10, max_connections_per_network: 11}}", `c.yaml:1: listeners.public.max_connections_per_network = 11: is more than max_connections (10); lower it`)
	file("listeners: {public: {proxy_protocol: true}}", `c.yaml:1: listeners.public.proxy_protocol = true: would believe nobody; name the proxies in trusted_hops`)
	file("listeners: {internal: {address: '10.0.0.1:9093'}}", `c.yaml:1: listeners.internal.address = "10.0.0.1:9093": leaves this machine without mutual TLS; set listeners.internal.tls.cert_file, key_file and client_ca_file, or stay on 127.0.0.1`)
	file("listeners: {console: {address: ':9090'}}", `c.yaml:1: listeners.console.address = ":9090": opens the console beyond this machine without users and TLS; set admin.users_file and listeners.console.tls, or stay on 127.0.0.1 and reach it through a tunnel`)

	// Stores.
	file("stores: {rooms: {engine: redis}}", `c.yaml:1: stores.rooms.addresses: is needed by engine redis; name the servers as host:port`)
	file("stores: {rooms: {engine: redis, addresses: ['a:1', 'b:1']}}", `c.yaml:1: stores.rooms.addresses = "a:1, b:1": names several servers that are neither Sentinels nor a cluster; set sentinel_master or cluster, or name one server`)
	file("stores: {rooms: {engine: redis, addresses: ['a:1'], sentinel_master: m}}", `default: stores.rooms.min_replicas = 0: would lose grants when Sentinel fails over; allowed: 1 to 8 with sentinel_master; set it to the number of replicas that may be promoted`)
	file("stores: {rooms: {engine: redis, addresses: ['a:1'], sentinel_master: m, min_replicas: 1, cluster: true}}", `c.yaml:1: stores.rooms.cluster = true: cannot go with sentinel_master; choose one`)
	file("stores: {rooms: {engine: redis, addresses: ['a:1'], username: u}}", `c.yaml:1: stores.rooms.password_file: is needed with a username; put the password in a file and name it`)
	file("stores: {rooms: {tls: {cert_file: a}}}", `c.yaml:1: stores.rooms.tls: has a certificate without a key, or a key without a certificate; set both cert_file and key_file`)
	file("stores: {seats: {engine: cql}}",
		`c.yaml:1: stores.seats.addresses: is needed by engine cql; name contact points as host:port`,
		`c.yaml:1: stores.seats.datacenter: is needed by engine cql; name the local datacenter (nodetool status shows it)`)
	file("stores: {orders: {engine: postgres}}", `c.yaml:1: stores.orders.url_file: is needed by engine postgres; put the connection URL in a file and name it`)
	file("stores: {bus: {engine: kafka}}", `c.yaml:1: stores.bus.addresses: is needed by engine kafka; name brokers as host:port`)
	file("stores: {discovery: {engine: consul, peers: {core: [http://a]}}}", `c.yaml:1: stores.discovery.peers.core: is only used by engine static; drop it, or set stores.discovery.engine: static`)

	// Upstreams and routes.
	file("upstreams: {a: {}}", `c.yaml:1: upstreams.a: has 0 of role, targets and service; allowed: exactly one; say where the origin is in one way`)
	file("upstreams: {a: {role: core, targets: [http://a]}}", `c.yaml:1: upstreams.a: has 2 of role, targets and service; allowed: exactly one; say where the origin is in one way`)
	file("upstreams: {a: {service: web}}", `c.yaml:1: upstreams.a.service = "web": needs stores.discovery.engine: consul; set it, or list targets`)
	file("upstreams: {shop: {role: core}}\nroutes:\n  - {upstream: shpo}", `c.yaml:3: routes[0].upstream = "shpo": is not an upstream; did you mean "shop"?`)
	file("upstreams: {shop: {role: core}}\nroutes:\n  - {paths: [/]}", `c.yaml:3: routes[0].upstream: is missing; name one of: shop`)
	file("upstreams: {shop: {role: core}}\nroutes:\n  - {upstream: shop, room: a}", `c.yaml:3: routes[0].room = "a": is not a room; name one of: (none is configured)`)
	file("upstreams: {shop: {role: core}}\nrooms: {a: {host: a.example}}\nroutes:\n  - {upstream: shop, room: a, host: b.example}", `c.yaml:4: routes[0].host = "b.example": is not the host of room a (a.example); a room has one host: make a second room, or correct one of them`)
	file("upstreams: {shop: {role: core}}\nroutes:\n  - {upstream: shop, paths: ['/a*b']}", `c.yaml:3: routes[0].paths[0] = "/a*b": is not acceptable; allowed: path that begins with /, with at most one *, at its end; correct it`)

	// Rooms.
	room := func(yaml string, want ...string) { t.Helper(); file("rooms: {a: {"+yaml+"}}", want...) }
	room("idle_s: 901", `c.yaml:1: rooms.a.idle_s = 901: is longer than stay_max_s (900); lower it, or raise stay_max_s`)
	room("first_lease_s: 301", `c.yaml:1: rooms.a.first_lease_s = 301: is longer than idle_s (300); lower it, or raise idle_s`)
	room("who: account",
		`c.yaml:1: rooms.a.account: has no keys to check tokens with; set jwks_url or jwks_file`,
		`c.yaml:1: rooms.a.account: does not say where the token is; set cookie or header`)
	room("who: invite", `c.yaml:1: rooms.a.codes: is empty while who is invite; list the codes' SHA-256, or name a file`)
	room("who: token", `c.yaml:1: rooms.a.token.issuer_url: is missing while who is token; name the issuer`)
	room("codes: {file: a, sha256: ["+strings.Repeat("ab", 32)+"]}", `c.yaml:1: rooms.a.codes: has both a list and a file; keep one`)
	room("lanes: []", `c.yaml:1: rooms.a.lanes: has 0 entries; allowed: 1 to 16; change the list`)
	room("lanes: [{weight: 1}]", `c.yaml:1: rooms.a.lanes[0].name: is missing; name the lane`)
	room("lanes: [{name: a}, {name: a}]", `c.yaml:1: rooms.a.lanes[1].name = "a": is given twice; rename one`)
	room("lanes: [{name: a}, {name: b, code: true}]", `c.yaml:1: rooms.a.lanes[1].code = true: asks for a code, and the room has none; fill codes, or drop it`)
	room("codes: {file: a}, lanes: [{name: a, code: true}]", `c.yaml:1: rooms.a.lanes[0].code = true: would leave no lane for fans without a code; put the general lane first`)
	room("opening: {lobby: true}", `c.yaml:1: rooms.a.opening.lobby = true: needs a time of opening; set opening.opens_at`)
	room("opening: {opens_at: '2030-01-01T00:00:00Z', opens_in_s: 3}", `c.yaml:1: rooms.a.opening.opens_in_s = 3: cannot go with opens_at; keep one`)
	room("opening: {opens_at: tomorrow}", `c.yaml:1: rooms.a.opening.opens_at = "tomorrow": is not acceptable; allowed: RFC 3339 time, e.g. 2027-05-01T10:00:00Z, or empty; correct it`)
	room("opening: {draw: {kind: announced}}", `c.yaml:1: rooms.a.opening.draw.source: is missing while kind is announced; say which public number decides, published where and when`)
	room("opening: {draw: {round: 5}}", `c.yaml:1: rooms.a.opening.draw.round = 5: is only used by kind drand; drop it, or set kind: drand`)

	// Everything at once, in the order of an editor.
	refused("node: ' '\nlog: {level: x}\nrooms: {a: {cap: 0}}", []string{"STANCHION_DEMO_FANS=many"}, []string{"--demo.seed=x"},
		`--demo.seed: demo.seed = "x": is not a whole number; allowed: 0 to 18446744073709551615; write digits only`,
		`STANCHION_DEMO_FANS: demo.fans = "many": is not a whole number; allowed: 0 to 1000000; write digits only; the unit is in the key's name`,
		`c.yaml:1: node = " ": is not acceptable; allowed: letters, digits, . _ -, at most 128 characters, or empty; correct it`,
		`c.yaml:2: log.level = "x": is not one of the choices; allowed: debug, info, warn, error; choose one`,
		`c.yaml:3: rooms.a.cap = "0": is out of range; allowed: 1 to 10000000; choose a value in it`)
}

func TestAccepted(t *testing.T) {
	accepted := func(yaml string, env, flags []string) Config {
		t.Helper()
		cfg, _, err := load(yaml, env, flags...)
		if err != nil {
			t.Errorf("%q %q %q: %v", yaml, env, flags, err)
		}
		return cfg
	}
	accepted("", nil, nil)
	accepted("# nothing\n", nil, nil)
	accepted("---\nnode: a\n", nil, nil)
	accepted("log:\nrooms:\ntrusted_hops:\n", nil, nil) // all commented out below
	accepted("", []string{"PATH=/bin", "STANCHION_TEST_REDIS=x", "STANCHION_CONFIG="}, nil)
	accepted("", []string{"STANCHION_CONFIG=missing.yaml"}, nil) // the flag wins: this is not read
	accepted("", []string{"STANCHION_PORT=tcp://10.0.0.1:80", "STANCHION_SERVICE_HOST=10.0.0.1", "STANCHION_SERVICE_PORT_HTTP=80", "STANCHION_EDGE_PORT_8080_TCP_ADDR=10.0.0.1"}, nil)

	if got := accepted("drain_timeout_s: 1e2", nil, nil).DrainS; got != 100 {
		t.Errorf("1e2 is %d", got)
	}
	if got := accepted("node: 007", nil, nil).Node; got != "007" {
		t.Errorf("a text that looks like a number became %q", got)
	}
	if got := accepted("rooms:\n  a:\n    message: |\n      two\n      lines\n", nil, nil).Rooms["a"].Message; got != "two\nlines" {
		t.Errorf("a block text became %q", got)
	}
	cfg := accepted("rooms: {pre-sale: {cap: 5}}", []string{"STANCHION_ROOMS_PRE_SALE_CAP=6", "STANCHION_TRUSTED_HOPS=10.0.0.0/8, ::1/128"}, []string{"--data-dir=x", "--rooms.pre-sale.branding.accent=#aabbcc"})
	if r := cfg.Rooms["pre-sale"]; r.Cap != 6 || r.Branding.Accent != "#aabbcc" || r.IdleS != 300 || len(cfg.Rooms) != 1 {
		t.Errorf("room %+v", r)
	}
	if !slices.Equal(cfg.TrustedHop, []string{"10.0.0.0/8", "::1/128"}) || cfg.DataDir != "x" {
		t.Errorf("%q %q", cfg.TrustedHop, cfg.DataDir)
	}
	cfg = accepted("upstreams: {a: {targets: ['http://a:1']}}\nroutes: [{upstream: a}, {upstream: a}]", nil, []string{"--routes.1.cost=3", "--stores.discovery.peers={core: ['http://b:1']}"})
	if cfg.Routes[0].Cost != 1 || cfg.Routes[1].Cost != 3 || !slices.Equal(cfg.Routes[1].Paths, []string{"/*"}) {
		t.Errorf("routes %+v", cfg.Routes)
	}
	if !slices.Equal(cfg.Stores.Discovery.Peers["core"], []string{"http://b:1"}) {
		t.Errorf("peers %v", cfg.Stores.Discovery.Peers)
	}
	cfg = accepted("trusted_hops: [10.0.0.0/8, 10.1.0.0/16]", nil, []string{"--trusted_hops="})
	if len(cfg.TrustedHop) != 0 {
		t.Errorf("an empty list left %v", cfg.TrustedHop)
	}
}

func TestWarnings(t *testing.T) {
	warned := func(yaml, want string) {
		t.Helper()
		_, report, err := load(yaml, nil)
		if err != nil || !slices.ContainsFunc(report.Warnings, func(w string) bool { return strings.Contains(w, want) }) {
			t.Errorf("%q: warnings %q, %v; want %q", yaml, report.Warnings, err, want)
		}
	}
	warned("", "routes is empty")
	warned("rooms: {a: {}}", "rooms.a guards nothing")
	warned("listeners: {operations: {address: '0.0.0.0:9091'}}", "listeners.operations (0.0.0.0:9091) leaves this machine")
	warned("listeners: {public: {address: ':8080'}}", "without TLS")
}

func TestCheckRoles(t *testing.T) {
	check := func(yaml string, roles []Role, want ...string) {
		t.Helper()
		cfg, report, err := load(yaml, nil)
		if err != nil {
			t.Fatalf("%q: %v", yaml, err)
		}
		var p *Problems
		var got []string
		if errors.As(cfg.CheckRoles(report, roles...), &p) {
			for _, one := range p.List {
				got = append(got, one.String())
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q as %v\n got: %s\nwant: %s", yaml, roles, strings.Join(got, "\n      "), strings.Join(want, "\n      "))
		}
	}
	shop := "upstreams: {shop: {role: core}}\n"
	check(shop, AllRoles())
	check(shop, append(AllRoles(), PSPSimulator))
	check("", ProtectRoles())
	check("", []Role{PSPSimulator})
	check(shop, ProtectRoles(), `default: stores.discovery.peers.core: is needed by upstreams.shop.role; list the URLs of its internal listeners, or set stores.discovery.engine: consul`)
	check("", []Role{EdgeRole}, `default: stores.rooms.engine = "embedded": exists inside one process only, and role edge runs apart from others; set it to redis, or run stanchion all`)
	check("stores: {rooms: {engine: redis, addresses: ['a:1']}}", []Role{EdgeRole})
	check("stores: {rooms: {engine: redis, addresses: ['a:1']}}", []Role{QueueRole}, `default: stores.settings.engine = "embedded": exists inside one process only, and role queue runs apart from others; set it to consul, or run stanchion all`)
	check("stores:\n  seats: {engine: embedded}", []Role{InventoryRole}, `c.yaml:2: stores.seats.engine = "embedded": exists inside one process only, and role inventory runs apart from others; set it to cql, or run stanchion all`)
	check("stores: {orders: {engine: postgres, url_file: u}, bus: {engine: kafka, addresses: ['a:1']}, discovery: {peers: {inventory: [http://i]}}}", []Role{CoreRole},
		`default: stores.discovery.peers.queue: is needed by role core, which reports its health and stock there; list the URLs of its internal listeners, or set stores.discovery.engine: consul`)
	check("stores: {orders: {engine: postgres, url_file: u}, bus: {engine: kafka, addresses: ['a:1']}, discovery: {engine: consul}}", []Role{CoreRole})

	cfg, report, err := load("rooms: {a: {opening: {opens_in_s: 5}}}", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := `c.yaml:1: rooms.a.opening.opens_in_s = 5: is for the demo only: after a restart nobody could say when the room opens; set opening.opens_at to a time`
	if err := cfg.CheckOpening(report); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("CheckOpening: %v", err)
	}
}

func TestJoinedErrors(t *testing.T) {
	if err := Join(nil, nil); err != nil {
		t.Errorf("Join of nothing: %v", err)
	}
	one := &Problems{List: []Problem{{Key: "a", What: "is wrong"}}}
	err := Join(one, nil, fmt.Errorf("elsewhere: %w", &Problems{List: []Problem{{Key: "b", What: "too"}}}))
	want := "2 problems in the configuration:\n  default: a: is wrong\n  default: b: too"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestSplitArgs(t *testing.T) {
	keys, rest := SplitArgs([]string{"edge", "--protect", "http://a", "--rooms.main.cap", "7", "--config", "f", "--node=x", "--demo.stadium=false", "--set", "a=b", "--help", "--drain-timeout-s=3", "--", "--log.level=x"})
	if want := []string{"--rooms.main.cap=7", "--node=x", "--demo.stadium=false", "--drain-timeout-s=3"}; !slices.Equal(keys, want) {
		t.Errorf("keys %q, want %q", keys, want)
	}
	if want := []string{"edge", "--protect", "http://a", "--config", "f", "--set", "a=b", "--help", "--", "--log.level=x"}; !slices.Equal(rest, want) {
		t.Errorf("rest %q, want %q", rest, want)
	}
}

// scalarKeys are all keys of single values outside of lists, with rooms.a and upstreams.a standing for named entries.
func scalarKeys() map[string]field {
	all := map[string]field{}
	var walk func(t reflect.Type, path string)
	walk = func(t reflect.Type, path string) {
		for _, f := range schema(t) {
			at := join(path, f.name)
			switch f.kind.Kind() {
			case reflect.Struct:
				walk(f.kind, at)
			case reflect.Map:
				if f.kind.Elem().Kind() == reflect.Struct {
					walk(f.kind.Elem(), at+".a")
				}
			case reflect.Slice:
			default:
				all[at] = f
			}
		}
	}
	walk(reflect.TypeFor[Config](), "")
	return all
}

// drawValue is some value that key f accepts.
func drawValue(rt *rapid.T, f field, label string) string {
	switch {
	case len(f.enum) > 0:
		return rapid.SampledFrom(f.enum).Draw(rt, label)
	case f.kind.Kind() == reflect.Bool:
		return strconv.FormatBool(rapid.Bool().Draw(rt, label))
	case f.kind.Kind() == reflect.Uint64:
		return strconv.FormatUint(rapid.Uint64().Draw(rt, label), 10)
	case f.kind.Kind() == reflect.Float64:
		low, high := bounds(f)
		return strconv.FormatFloat(rapid.Float64Range(low, high).Draw(rt, label), 'g', -1, 64)
	case f.kind.Kind() == reflect.Int, f.kind.Kind() == reflect.Int64:
		low, high := bounds(f)
		return strconv.FormatInt(rapid.Int64Range(int64(low), int64(high)).Draw(rt, label), 10)
	}
	samples := map[string][]string{
		"address": {"127.0.0.1:0", "[::1]:1", "a.example:65535"}, "url": {"http://a", "https://b.example:1/c"}, "prefix": {"/x", "/a/b.c"}, "path": {"/", "/ö?x=1 #"},
		"name": {"a", "0-9"}, "label": {"A.b_c-d"}, "topic": {"t."}, "ident": {"a_1"}, "kvpath": {"a/b"}, "host": {"a.example", "::1"}, "file": {"/a b: c", "#x"}, "token": {"X-A"},
		"time": {"2030-01-01T00:00:00.5+02:00"}, "hex32": {strings.Repeat("0a", 32)}, "colour": {"#00ff00"}, "currency": {"USD"}, "country": {"FR"}, "": {"x", "null", "1", "true", "a: b # c", "[x", "ü'\""},
	}
	return rapid.SampledFrom(samples[f.format]).Draw(rt, label)
}

func bounds(f field) (low, high float64) {
	low, _ = strconv.ParseFloat(f.limits[0], 64)
	high, _ = strconv.ParseFloat(f.limits[1], 64)
	return low, high
}

// valueAt is the value of a key as text.
func valueAt(t interface{ Fatalf(string, ...any) }, cfg Config, key string) string {
	v := reflect.ValueOf(cfg)
	for segment := range strings.SplitSeq(key, ".") {
		if v.Kind() == reflect.Map {
			v = v.MapIndex(reflect.ValueOf(segment))
			continue
		}
		f, ok := find(schema(v.Type()), segment)
		if !ok {
			t.Fatalf("no key %s", key)
		}
		v = v.Field(f.index)
	}
	if v.Kind() == reflect.Float64 {
		return strconv.FormatFloat(v.Float(), 'g', -1, 64)
	}
	return fmt.Sprint(v.Interface())
}

// TestPrecedence puts random values of random keys into random places: the strongest place wins, the value arrives as it
// was written, and the report names the place.
func TestPrecedence(t *testing.T) {
	keys := scalarKeys()
	sorted := slices.Sorted(maps.Keys(keys))
	rapid.Check(t, func(rt *rapid.T) {
		var yaml, env, flags []string
		type expected struct{ value, source string }
		want := map[string]expected{}
		for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom(sorted), 1, 12, rapid.ID[string]).Draw(rt, "keys") {
			f := keys[key]
			if rapid.Bool().Draw(rt, "in file") {
				v := drawValue(rt, f, "file value")
				text := v
				if f.kind.Kind() == reflect.String {
					text = strconv.Quote(v)
				}
				segments := strings.Split(key, ".")
				yaml = append(yaml, nest(segments, text))
				want[key] = expected{v, "c.yaml:1"}
			}
			if rapid.Bool().Draw(rt, "in env") {
				v := drawValue(rt, f, "env value")
				name := "STANCHION_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
				env = append(env, name+"="+v)
				want[key] = expected{v, name}
			}
			if rapid.Bool().Draw(rt, "in flag") {
				v := drawValue(rt, f, "flag value")
				if rapid.Bool().Draw(rt, "as --set") {
					flags = append(flags, "--set", key+"="+v)
					want[key] = expected{v, "--set " + key}
				} else {
					flags = append(flags, "--"+key+"="+v)
					want[key] = expected{v, "--" + key}
				}
			}
		}
		var cfg Config
		b := newBinder()
		b.defaults(&cfg)
		for _, y := range yaml {
			b.document("c.yaml", MaxFileBytes, []byte(y), "", &cfg)
		}
		both := Config{Rooms: map[string]Room{"a": {}}, Upstreams: map[string]Upstream{"a": {}}}
		for _, a := range slices.Concat(b.variables(env, both), b.flags(flags)) {
			b.assign(&cfg, a.segments, a.text, a.src)
		}
		if err := b.problems.err(); err != nil {
			rt.Fatalf("%v", err)
		}
		for key, w := range want {
			got := valueAt(rt, cfg, key)
			if x, err := strconv.ParseFloat(w.value, 64); err == nil && keys[key].kind.Kind() == reflect.Float64 {
				w.value = strconv.FormatFloat(x, 'g', -1, 64)
			}
			if got != w.value {
				rt.Fatalf("%s = %q, want %q from %s", key, got, w.value, w.source)
			}
			if s := sourceOf(b.sources, key).String(); s != w.source {
				rt.Fatalf("%s comes from %s, want %s", key, s, w.source)
			}
		}
	})
}

// nest writes one key in flow style.
func nest(segments []string, text string) string {
	if len(segments) == 1 {
		return "{" + segments[0] + ": " + text + "}"
	}
	return "{" + segments[0] + ": " + nest(segments[1:], text) + "}"
}

// TestEveryKeyHasOneVariable: no two keys share a variable, and each variable means its key.
func TestEveryKeyHasOneVariable(t *testing.T) {
	b := newBinder()
	cfg := Config{Rooms: map[string]Room{"a": {}}, Upstreams: map[string]Upstream{"a": {}}}
	for key := range scalarKeys() {
		name := strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
		got := b.variables([]string{"STANCHION_" + name + "=x"}, cfg)
		if len(got) != 1 || strings.Join(got[0].segments, ".") != key {
			t.Errorf("STANCHION_%s means %v, want %s", name, got, key)
		}
	}
	if err := b.problems.err(); err != nil {
		t.Error(err)
	}
}

func FuzzLoad(f *testing.F) {
	for _, name := range []string{"demo", "protect", "redis", "split"} {
		text, err := os.ReadFile("examples/" + name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), "STANCHION_ROOMS_A_CAP=5", "--log.level=debug")
	}
	f.Add("rooms: {a: {lanes: [{name: x}, {name: y}]}}", "STANCHION_ROUTES=[{upstream: a}]", "--rooms.a.lanes.1.weight=3")
	f.Add("? [a, b]\n: c\n<<: *x", "STANCHION_=", "--=")
	f.Add("a: &a [*a]", "STANCHION_ROOMS_=x", "--rooms..cap=1")
	f.Add("\"\\ud800\": |+\n\n\t", "STANCHION_ROOMS={a: {", "--rooms.a=")
	f.Fuzz(func(t *testing.T, yaml, variable, flag string) {
		args := []string{"--config=c.yaml"}
		if strings.HasPrefix(flag, "--") && !strings.HasPrefix(flag, "--config") {
			args = append(args, flag)
		}
		cfg, report, err := Load(args, []string{variable}, func(string) ([]byte, error) { return []byte(yaml), nil })
		var p *Problems
		switch {
		case err == nil:
			masked, err := cfg.Masked()
			if err != nil {
				t.Fatal(err)
			}
			secret := slices.ContainsFunc(slices.Collect(maps.Values(cfg.Rooms)), func(r Room) bool { return len(r.Codes.SHA256) > 0 })
			if again, _, err := load(string(masked), nil); !secret && (err != nil || again.Digest() != report.Digest) {
				t.Fatalf("what /config shows is another configuration: %v\n%s", err, masked)
			}
		case !errors.As(err, &p):
			t.Fatalf("not a Problems: %v", err)
		case len(p.List) == 0:
			t.Fatal("refused without a problem")
		}
		for _, one := range problemsOf(p) {
			if s := one.String(); strings.ContainsAny(s, "\n\r\x00") || len(s) > 4096 {
				t.Fatalf("a message that breaks the page: %q", s)
			}
		}
	})
}

func problemsOf(p *Problems) []Problem {
	if p == nil {
		return nil
	}
	return p.List
}
