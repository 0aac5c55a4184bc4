package restart

import (
	"strings"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/perf/load"
)

// memory answers an audit from maps.
type memory struct {
	ranks  map[string]uint64
	holds  map[string]string
	orders map[string]Order
}

func (m memory) Rank(ticket string) (uint64, bool, bool, error) {
	r, ok := m.ranks[ticket]
	return r, true, ok, nil
}
func (m memory) Hold(_, id string) (string, bool, error) { s, ok := m.holds[id]; return s, ok, nil }
func (m memory) Order(_, id string) (Order, bool, error) { o, ok := m.orders[id]; return o, ok, nil }

// Each planted loss must be found by name, and an honest server must pass: an audit that cannot fail proves nothing.
func TestAuditFindsEachPlantedLoss(t *testing.T) {
	now := time.Unix(1000, 0)
	honest := func() memory {
		return memory{
			ranks:  map[string]uint64{"t1": 4},
			holds:  map[string]string{"h2": "held", "h3": "sold", "h4": "sold"},
			orders: map[string]Order{"o3": {"PAID", 100, 100, []string{"A1", "A2"}}, "o4": {"PAID", 50, 50, []string{"A3"}}},
		}
	}
	for name, c := range map[string]struct {
		harm func(memory)
		want string
	}{
		"honest":          {func(memory) {}, ""},
		"place gone":      {func(m memory) { delete(m.ranks, "t1") }, "place is gone"},
		"rank moved":      {func(m memory) { m.ranks["t1"] = 5 }, "rank was 4, is 5"},
		"hold gone":       {func(m memory) { delete(m.holds, "h2") }, "hold h2 is gone"},
		"hold dropped":    {func(m memory) { m.holds["h2"] = "released" }, "before its promised end"},
		"order gone":      {func(m memory) { delete(m.orders, "o3") }, "order o3 is gone"},
		"paid undone":     {func(m memory) { m.orders["o3"] = Order{State: "CANCELLED"} }, "was paid and is CANCELLED"},
		"ticket missing":  {func(m memory) { m.orders["o3"] = Order{"PAID", 100, 100, []string{"A1"}} }, "1 tickets, paid for 2"},
		"charged twice":   {func(m memory) { m.orders["o3"] = Order{"PAID", 100, 200, []string{"A1", "A2"}} }, "took 200 of 100"},
		"seat sold twice": {func(m memory) { m.orders["o4"] = Order{"PAID", 50, 50, []string{"A1"}} }, "sold twice"},
		"never settled":   {func(m memory) { m.orders["o4"] = Order{State: "SECURING"} }, "still SECURING"},
	} {
		t.Run(name, func(t *testing.T) {
			l := NewLedger()
			for _, f := range []load.Fact{
				{Fan: 1, Kind: load.FactPlace, Text: "t1"}, {Fan: 1, Kind: load.FactRank, Text: "t1", Rank: 4},
				{Fan: 2, Kind: load.FactHold, ID: "h2", Until: now.Add(time.Minute)},
				{Fan: 3, Kind: load.FactHold, ID: "h3", Until: now}, {Fan: 3, Kind: load.FactOrder, ID: "o3"}, {Fan: 3, Kind: load.FactPaid, ID: "o3", Seats: 2},
				{Fan: 4, Kind: load.FactHold, ID: "h4", Until: now}, {Fan: 4, Kind: load.FactOrder, ID: "o4"},
			} {
				l.Witness(f)
			}
			m := honest()
			c.harm(m)
			losses, err := l.Audit(m, now)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(losses, "; ")
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Fatalf("losses: %q, want %q", got, c.want)
			}
		})
	}
}

func TestAuditFindsARankThatChangedMeanwhile(t *testing.T) {
	l := NewLedger()
	l.Witness(load.Fact{Fan: 1, Kind: load.FactRank, Text: "t", Rank: 1})
	l.Witness(load.Fact{Fan: 1, Kind: load.FactRank, Text: "t", Rank: 2})
	l.Witness(load.Fact{Fan: 1, Kind: load.FactPass, At: time.Unix(1, 0)})
	losses, err := l.Audit(memory{}, time.Now())
	if err != nil || len(losses) != 1 {
		t.Fatalf("losses %v, %v", losses, err)
	}
}
