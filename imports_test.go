package stanchion_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/stanchion-queue/stanchion"

// families are the parts that are joined by cmd/stanchion alone.
var families = []string{"edge", "queue", "core", "inventory", "admin", "config"}

// kernels are what any part may build on: they decide and never touch the world.
var kernels = []string{"queue/line", "pass", "inventory/chart"}

// A rule forbids imports. Patterns are paths inside the module, or whole import
// paths of others; a trailing /... takes in everything below, and * stands for
// one path element.
type rule struct {
	from    []string // these packages
	not     []string // must not import these
	except  []string // unless the importing package is one of these
	reach   reach
	because string
}

type reach int

const (
	inCode     reach = iota // imports of the package itself
	inTests                 // also those of its tests
	throughAll              // also everything that those import in turn
)

var rules = append(familyRules(), []rule{
	{
		from: []string{"..."}, not: []string{"cmd/..."}, reach: inTests,
		because: "cmd is where the parts are joined; nothing lies above it",
	},
	{
		from: []string{"..."}, not: []string{"chaos/...", "perf/..."}, reach: inTests,
		except:  []string{"cmd/...", "chaos/...", "perf/...", "tools/..."},
		because: "drills and load look at the product from outside; the product must not need them",
	},
	{
		from: []string{"..."}, not: []string{"tools/..."}, reach: inTests,
		except:  []string{"tools/...", "cmd/..."},
		because: "tools serve those who work on the product, and the demo its generated halls",
	},
	{
		from: []string{"..."}, not: []string{"github.com/valyala/fasthttp/..."}, reach: inTests,
		except:  []string{"edge/...", "pass/fasthttppass", "perf/...", "chaos/...", "cmd/stanchion"},
		because: "fasthttp reuses its buffers after the handler; only the edge is written for that, the rest uses net/http",
	},
	{
		from: []string{"edge/..."}, reach: throughAll,
		not:     []string{"github.com/jackc/pgx/...", "github.com/gocql/gocql/...", "github.com/segmentio/kafka-go/..."},
		because: "the edge must go on with every database and the bus gone, so it must not be able to call them",
	},
	{
		from: []string{"..."}, not: []string{"github.com/redis/rueidis/..."},
		except:  []string{"queue/redisqueue/...", "edge/limit/...", "cmd/stanchion", "perf/...", "chaos/..."},
		because: "an engine is reached through its adapter only, so that the embedded twin can stand in for it",
	},
	{
		from: []string{"..."}, not: []string{"github.com/gocql/gocql/..."},
		except:  []string{"inventory/cqlstock/...", "cmd/stanchion", "tools/services", "perf/...", "chaos/..."},
		because: "an engine is reached through its adapter only, so that the embedded twin can stand in for it",
	},
	{
		from: []string{"..."}, not: []string{"github.com/jackc/pgx/..."},
		except:  []string{"core/...", "cmd/stanchion", "perf/...", "chaos/..."},
		because: "PostgreSQL holds orders and payments, which belong to the core",
	},
	{
		from: []string{"..."}, not: []string{"github.com/segmentio/kafka-go/..."},
		except:  []string{"core/bus/kafkabus/...", "cmd/stanchion", "tools/services", "perf/...", "chaos/..."},
		because: "events leave by the outbox and the bus, never past them",
	},
	{
		from: []string{"..."}, not: []string{"github.com/hashicorp/consul/api/..."},
		except:  []string{"config/consulkv/...", "edge/upstream/...", "cmd/stanchion", "perf/...", "chaos/..."},
		because: "the data plane has to work without Consul, so few may know of it",
	},
	{
		from: append(slices.Clone(kernels), "queue/pace", "edge/admit"),
		not: []string{"net", "net/http/...", "os", "os/...", "database/sql/...", "log/...", "context",
			"github.com/prometheus/...", "go.opentelemetry.io/..."},
		because: "what is decided here is a pure function of its arguments: simulated, fuzzed and replayed without a world around it",
	},
	{
		from: []string{"..."}, not: []string{"testing", "pgregory.net/rapid"},
		except:  []string{"queue/queuetest", "inventory/stocktest", "**test"},
		because: "test helpers belong in test files or in a conformance suite, whose name ends in test",
	},
	{
		from: []string{"..."}, not: []string{"C", "github.com/mattn/go-sqlite3", "unsafe"}, reach: inCode,
		because: "one static binary on every platform, and no memory errors of our own",
	},
	{
		from: []string{"..."}, not: []string{"math/rand"}, reach: inTests,
		because: "places, tokens and draws come from crypto/rand or a published seed; where chance may be weak, math/rand/v2 says so",
	},
}...)

func familyRules() []rule {
	var out []rule
	for _, family := range families {
		r := rule{
			from: []string{family + "/..."}, reach: inTests,
			because: "families never import each other: the caller declares the interface it needs, and cmd/stanchion hands it the other's type",
		}
		for _, other := range families {
			if other != family {
				r.not = append(r.not, other+"/...")
			}
		}
		out = append(out, r)
	}
	return out
}

// A listed package is what `go list -json` tells about one.
type listed struct {
	ImportPath, Dir, Name      string
	Imports, Deps, GoFiles     []string
	TestImports, XTestImports  []string
	Module                     *struct{ Path string }
	Incomplete                 bool
	Error                      *struct{ Err string }
	TestGoFiles, XTestGoFiles  []string
	IgnoredGoFiles, EmbedFiles []string
}

// ours lists the packages of this module with all build tags that tests use.
func ours(t *testing.T) []listed {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("go", "list", "-e", "-deps", "-tags", "it,ui", "-json", "./...")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var packages []listed
	decoder := json.NewDecoder(bytes.NewReader(out))
	for {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if p.Module != nil && p.Module.Path == module {
			packages = append(packages, p)
		}
	}
	if len(packages) < 2 {
		t.Fatalf("go list found %d packages of %s", len(packages), module)
	}
	return packages
}

func TestImports(t *testing.T) {
	for _, p := range ours(t) {
		for _, r := range rules {
			for _, imported := range r.broken(p) {
				t.Errorf("%s must not import %s: %s", local(p.ImportPath), local(imported), r.because)
			}
		}
	}
}

// broken returns the imports of p that the rule forbids.
func (r rule) broken(p listed) []string {
	from := local(p.ImportPath)
	if !matchAny(r.from, from) || matchAny(r.except, from) {
		return nil
	}
	imports := slices.Clone(p.Imports)
	if r.reach >= inTests {
		imports = append(imports, p.TestImports...)
		imports = append(imports, p.XTestImports...)
	}
	if r.reach == throughAll {
		imports = append(imports, p.Deps...)
	}
	slices.Sort(imports)
	var out []string
	for _, imported := range slices.Compact(imports) {
		name := local(imported)
		if imported != p.ImportPath && matchAny(r.not, name) && !(isOurs(imported) && matchAny(kernels, name)) {
			out = append(out, imported)
		}
	}
	return out
}

func isOurs(importPath string) bool {
	return importPath == module || strings.HasPrefix(importPath, module+"/")
}

// local shortens the import path of one of our packages to its folder.
func local(importPath string) string {
	if importPath == module {
		return "."
	}
	return strings.TrimPrefix(importPath, module+"/")
}

func matchAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return match(pattern, name) })
}

func match(pattern, name string) bool {
	if pattern == "..." {
		return true
	}
	if end, ok := strings.CutPrefix(pattern, "**"); ok {
		return strings.HasSuffix(name, end)
	}
	if above, ok := strings.CutSuffix(pattern, "/..."); ok {
		return name == above || strings.HasPrefix(name, above+"/")
	}
	return name == pattern
}

func TestRulesCatchWhatTheyForbid(t *testing.T) {
	tests := []struct {
		name string
		p    listed
		want string // the import that must be caught; empty: none
	}{
		{"family imports family", listed{ImportPath: module + "/edge", Imports: []string{module + "/queue"}}, module + "/queue"},
		{"family's test imports family", listed{ImportPath: module + "/core/shop", XTestImports: []string{module + "/edge"}}, module + "/edge"},
		{"family imports kernel", listed{ImportPath: module + "/edge/admit", Imports: []string{module + "/queue/line", module + "/pass"}}, ""},
		{"adapter imports its family", listed{ImportPath: module + "/queue/redisqueue", Imports: []string{module + "/queue", "github.com/redis/rueidis"}}, ""},
		{"engine past its adapter", listed{ImportPath: module + "/queue/controller", Imports: []string{"github.com/redis/rueidis"}}, "github.com/redis/rueidis"},
		{"edge reaches a database", listed{ImportPath: module + "/edge/upstream", Deps: []string{"github.com/jackc/pgx/v5"}}, "github.com/jackc/pgx/v5"},
		{"fasthttp in the core", listed{ImportPath: module + "/core/shop", Imports: []string{"github.com/valyala/fasthttp"}}, "github.com/valyala/fasthttp"},
		{"cmd imports everything", listed{ImportPath: module + "/cmd/stanchion", Imports: []string{module + "/edge", module + "/perf/load"}}, ""},
		{"product imports a drill", listed{ImportPath: module + "/core", Imports: []string{module + "/chaos/fault"}}, module + "/chaos/fault"},
		{"kernel does I/O", listed{ImportPath: module + "/queue/line", Imports: []string{"net/http"}}, "net/http"},
		{"suite may use testing", listed{ImportPath: module + "/queue/queuetest", Imports: []string{"testing"}}, ""},
		{"product uses testing", listed{ImportPath: module + "/queue", Imports: []string{"testing"}}, "testing"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var caught []string
			for _, r := range rules {
				caught = append(caught, r.broken(test.p)...)
			}
			switch {
			case test.want == "" && len(caught) > 0:
				t.Errorf("caught %v", caught)
			case test.want != "" && !slices.Contains(caught, test.want):
				t.Errorf("caught %v, want %s", caught, test.want)
			}
		})
	}
}

func TestNoDrawerPackages(t *testing.T) {
	drawers := []string{"util", "utils", "common", "types", "models", "helpers", "pkg", "misc", "lib"}
	for _, p := range ours(t) {
		if name := path.Base(local(p.ImportPath)); slices.Contains(drawers, name) {
			t.Errorf("%s: a package named %q says nothing of what is in it; name it by the one thing it holds", local(p.ImportPath), name)
		}
	}
}
