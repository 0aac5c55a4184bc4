package config

import (
	"embed"
	"fmt"
	"net/url"
)

// Examples are ready-made configuration files: demo.yaml, protect.yaml, redis.yaml and split.yaml.
//
//go:embed examples/*.yaml
var Examples embed.FS

// DemoBase is what `stanchion demo` runs on unless the operator says otherwise.
func DemoBase() (Base, error) {
	text, err := Examples.ReadFile("examples/demo.yaml")
	if err != nil {
		return Base{}, fmt.Errorf("read built-in demo configuration: %w", err)
	}
	return Base{Name: "demo", YAML: text}, nil
}

// ProtectBase is one room, main, on every path in front of the origin at target (http://host:port).
func ProtectBase(target string) (Base, error) {
	if !isURL(target) {
		p := Problem{Source: Source{Name: "--protect"}, What: "names no origin: " + show(target), Allowed: formats["url"].words, Do: "write e.g. --protect http://127.0.0.1:9000"}
		if hasUserInfo(target) {
			p.What = "carries a user or password"
		}
		return Base{}, &Problems{List: []Problem{p}}
	}
	u, err := url.Parse(target)
	if err != nil {
		return Base{}, fmt.Errorf("read --protect: %w", err)
	}
	if u.Path != "" && u.Path != "/" {
		return Base{}, &Problems{List: []Problem{{Source: Source{Name: "--protect"}, What: "has a path: " + show(u.Path), Do: "name the origin alone; paths arrive there unchanged"}}}
	}
	origin := u.Scheme + "://" + u.Host
	return Base{Name: "--protect", YAML: fmt.Appendf(nil, protectYAML, origin)}, nil
}

const protectYAML = `upstreams:
  origin: {targets: [%q]}
rooms:
  main: {title: Please wait}
routes:
  - {paths: ["/*"], upstream: origin, room: main}
`

// AllBase is what `stanchion all` runs on unless the operator says otherwise: the shop, without a waiting room.
func AllBase() Base {
	return Base{Name: "all", YAML: []byte(`upstreams:
  shop: {role: core}
routes:
  - {paths: ["/*"], upstream: shop}
`)}
}
