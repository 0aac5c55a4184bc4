package load

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func options() Options {
	return Options{Target: "http://127.0.0.1:1", Entry: "/x", Room: "r", Fans: 2000, PerSecond: 50, LobbyShare: 0.3, LobbyFor: 30 * time.Second,
		AbsentShare: 0.4, BuyShare: 0.5, Seed: 7, StayMean: time.Second, Source: netip.MustParsePrefix("127.16.0.0/12")}
}

func TestTheSameSeedIsTheSameCrowd(t *testing.T) {
	o := options()
	a, b := plans(o), plans(o)
	if !reflect.DeepEqual(a, b) {
		t.Fatal("two crowds of one seed differ")
	}
	o.Seed++
	if reflect.DeepEqual(a, plans(o)) {
		t.Fatal("two seeds give one crowd")
	}
	lobby, absent := 0, 0
	for _, p := range a {
		if p.at < o.LobbyFor {
			lobby++
		}
		if p.absent {
			absent++
		}
	}
	if lobby != 600 {
		t.Errorf("%d of 2000 fans come to the lobby, want 600", lobby)
	}
	if absent < 700 || absent > 900 {
		t.Errorf("%d of 2000 fans are absent, want about 800", absent)
	}
}

func TestSourcesStayInThePrefixAndSpread(t *testing.T) {
	p := netip.MustParsePrefix("127.16.0.0/12")
	seen := map[netip.Addr]bool{}
	nets := map[netip.Prefix]int{}
	for i := range uint32(10_000) {
		a := sourceOf(p, i)
		if !p.Contains(a) || seen[a] {
			t.Fatalf("fan %d dials from %s", i, a)
		}
		seen[a] = true
		n, _ := a.Prefix(24)
		nets[n]++
	}
	if len(nets) != 4096 {
		t.Fatalf("10000 fans come from %d networks, want 4096", len(nets))
	}
	rapid.Check(t, func(t *rapid.T) {
		if a := sourceOf(p, rapid.Uint32().Draw(t, "fan")); !p.Contains(a) {
			t.Fatalf("%s is outside of %s", a, p)
		}
	})
}

func TestFirstForm(t *testing.T) {
	action, fields, ok := firstForm([]byte(`<p><form action="/a?x=1" method=post><input type=hidden name=t value=1><input name="number">
		<input type=radio name=r value=no><input type=radio name=r value=yes checked><button name=go value=approve>Pay</button><button name=go value=stop>No</button></form>
		<form action="/b"><input name=z></form>`))
	if !ok || action != "/a?x=1" || fields.Encode() != "go=approve&number=&r=yes&t=1" {
		t.Fatalf("firstForm = %q, %q, %v", action, fields.Encode(), ok)
	}
	if _, _, ok := firstForm([]byte("<p>no form")); ok {
		t.Fatal("found a form where there is none")
	}
}

func TestImpossibleCrowdsAreRefusedByName(t *testing.T) {
	o := options()
	o.Target, o.AbsentShare, o.Fans = "ftp://x", 1.5, -1
	err := o.validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"target", "absent share 1.5", "fans -1"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %q", err, want)
		}
	}
}
