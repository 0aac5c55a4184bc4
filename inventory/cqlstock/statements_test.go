package cqlstock

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/inventory"
)

// Every statement of this package that writes seats is conditional, sets a TTL only on the lease, and never makes
// another cell null. The statements are taken from the source, so none can be forgotten here.
func TestSeatStatements(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			// Statements are put together from constants; the parts of one are looked at together.
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			var text strings.Builder
			ast.Inspect(spec, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if s, err := strconv.Unquote(lit.Value); err == nil {
						text.WriteString(s)
					}
				}
				return true
			})
			s := text.String()
			if !strings.HasPrefix(s, "UPDATE seat ") && !strings.HasPrefix(s, "INSERT INTO seat ") {
				return true
			}
			found++
			if !strings.Contains(s, " IF ") {
				t.Errorf("not conditional: %s", s)
			}
			set, _, _ := strings.Cut(s, " IF ")
			if strings.Contains(set, "TTL") && set != "UPDATE seat USING TTL ? SET hold_id = ? AND seat = ?" { // "where" is a name here
				t.Errorf("a TTL on more than the lease: %s", s)
			}
			if strings.Contains(set, "null") && !strings.Contains(set, "hold_id = null") {
				t.Errorf("a null in another cell than the lease: %s", s)
			}
			return true
		})
	}
	if found < 10 {
		t.Errorf("only %d statements that write seats were found", found)
	}
}

func TestOptions(t *testing.T) {
	good := Options{Addresses: []string{"127.0.0.1:9042"}, Datacenter: "dc1"}
	if err := good.fill(); err != nil || good.Keyspace != "stock" || good.Timeout == 0 {
		t.Fatalf("%+v, %v", good, err)
	}
	for name, spoil := range map[string]func(*Options){
		"no address":    func(o *Options) { o.Addresses = nil },
		"no datacenter": func(o *Options) { o.Datacenter = "" },
		"keyspace":      func(o *Options) { o.Keyspace = "stock; DROP" },
		"timeout":       func(o *Options) { o.Timeout = -time.Second },
	} {
		o := good
		spoil(&o)
		if err := o.fill(); err == nil {
			t.Errorf("%s was accepted", name)
		}
		if _, err := Open(o); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	for _, s := range []Schema{{}, {Replicas: map[string]int{"dc1": 0}}, {Replicas: map[string]int{"d'c": 1}}} {
		if err := CreateSchema(t.Context(), good, s); err == nil {
			t.Errorf("schema %+v was accepted", s)
		}
	}
}

// Rows of a refused batch as Cassandra sends them (one for each existing seat, in clustering order) and as ScyllaDB
// does (one for each statement): both mean the same.
func TestRefusal(t *testing.T) {
	op, other, me := uuid.New(), uuid.New(), uuid.New()
	lease, err := inventory.MakeLease(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	batch := inventory.NewBatch(inventory.Head{Ver: 4}, op, inventory.Change{
		Kind: inventory.Hold, Seats: []int16{9, 3, 7}, Hold: me, Lease: lease, Channels: []int16{0},
	})
	head := inventory.Head{Ver: 4, Last: other, State: inventory.Open}
	seat := func(n int16, hold uuid.UUID) casRow {
		return casRow{head: head, hasHead: true, hasSeat: true, seat: inventory.Seat{Seat: n, Hold: hold}}
	}
	top := casRow{head: head, hasHead: true}
	stale := top
	stale.head.Ver = 5
	for name, c := range map[string]struct {
		rows    []casRow
		verdict inventory.Verdict
		seats   int
	}{
		"cassandra":              {[]casRow{seat(3, uuid.Nil), seat(7, other), seat(9, uuid.Nil)}, inventory.Refused, 3},
		"scylla":                 {[]casRow{top, seat(9, uuid.Nil), seat(3, uuid.Nil), seat(7, other)}, inventory.Refused, 3},
		"a seat that is missing": {[]casRow{top, seat(9, uuid.Nil), top, seat(7, other)}, inventory.Refused, 2},
		"a row twice":            {[]casRow{seat(3, uuid.Nil), seat(3, uuid.Nil)}, inventory.Refused, 1},
		"a row not asked for":    {[]casRow{seat(4, uuid.Nil)}, inventory.Refused, 0},
		"only another version":   {[]casRow{stale}, inventory.Stale, 0},
		"no block":               {[]casRow{{}}, inventory.Missing, 0},
	} {
		out := refusal(batch, c.rows)
		if out.Verdict != c.verdict || len(out.Seats) != c.seats || c.verdict != inventory.Missing && out.Head.Last != other {
			t.Errorf("%s: %+v", name, out)
		}
	}
}
