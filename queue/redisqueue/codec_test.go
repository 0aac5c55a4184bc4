package redisqueue

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stanchion-queue/stanchion/queue/line"
)

func TestInfo(t *testing.T) {
	good := map[string]string{"run_id": "abc", "redis_version": "7.0.15", "maxmemory_policy": "noeviction", "role": "master"}
	text := func(change map[string]string) string {
		var b strings.Builder
		b.WriteString("# Server\r\n\r\n")
		for k, v := range good {
			if c, ok := change[k]; ok {
				v = c
			}
			fmt.Fprintf(&b, "%s:%s\r\n", k, v)
		}
		for k, v := range change {
			if _, ok := good[k]; !ok {
				fmt.Fprintf(&b, "%s:%s\r\n", k, v)
			}
		}
		return b.String()
	}
	for name, c := range map[string]struct {
		change  map[string]string
		want    string
		replica int64
	}{
		"fit":               {map[string]string{}, "", 0},
		"valkey":            {map[string]string{"redis_version": "7.2.4", "valkey_version": "8.1.0"}, "", 0},
		"old":               {map[string]string{"redis_version": "6.2.14"}, "version 6.2.14", 0},
		"no version":        {map[string]string{"redis_version": ""}, "names no run_id", 0},
		"no run id":         {map[string]string{"run_id": ""}, "names no run_id", 0},
		"evicts":            {map[string]string{"maxmemory_policy": "allkeys-lfu"}, "allkeys-lfu", 0},
		"replica":           {map[string]string{"role": "slave", "master_host": "10.0.0.1", "master_port": "6379"}, "10.0.0.1:6379", 0},
		"two replicas":      {map[string]string{"slave0": "ip=1.2.3.4,port=1,state=online,offset=5,lag=0", "slave1": "ip=1.2.3.5,port=1,state=online,offset=5,lag=2"}, "", 2},
		"one of them lags":  {map[string]string{"slave0": "ip=1.2.3.4,port=1,state=online,offset=5,lag=3", "slave1": "ip=1.2.3.5,port=1,state=online,offset=5,lag=1"}, "", 1},
		"one of them syncs": {map[string]string{"slave0": "ip=1.2.3.4,port=1,state=wait_bgsave,offset=0,lag=0", "slave1": "ip=1.2.3.5,port=1,state=online,offset=5,lag=1"}, "", 1},
		"nonsense":          {map[string]string{"slave0": "online,lag,=,==0"}, "", 0},
	} {
		info := parseInfo(text(c.change))
		err := info.check()
		if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if n := info.inSync(); n != c.replica {
			t.Errorf("%s: %d replicas in sync, want %d", name, n, c.replica)
		}
	}
}

func TestScriptsCarryTheRunID(t *testing.T) {
	seen := map[string]string{}
	for _, s := range scripts {
		text, err := s.text("0123456789abcdef")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, "@RUN@") || !strings.Contains(text, "0123456789abcdef") {
			t.Errorf("%s does not depend on the run id", s.name)
		}
		if other := seen[text]; other != "" {
			t.Errorf("%s and %s are the same script", s.name, other)
		}
		seen[text] = s.name
	}
}

func TestStampAddresses(t *testing.T) {
	for _, c := range []struct {
		seq      uint32
		key, bit string
	}{
		{0, "sp:l:000000000000000a:0", "0"}, {131_071, "sp:l:000000000000000a:0", "131071"}, {131_072, "sp:l:000000000000000a:1", "0"},
		{1<<32 - 1, "sp:l:000000000000000a:32767", "131071"},
	} {
		s := line.Stamp{Win: 9, Inc: 10, Seq: c.seq}
		if k, b := spentKey("l", s), spentBit(s); k != c.key || b != c.bit {
			t.Errorf("stamp %d is at %s, %s; want %s, %s", c.seq, k, b, c.key, c.bit)
		}
	}
	w := line.Who{0xab, 0xcd, 15: 1}
	if k := holdersKey("l", line.WhoAccount, w); k != "who:l:abc" {
		t.Errorf("holders are at %s", k)
	}
	if k := holdersKey("l", line.WhoNone, w); k != "" {
		t.Errorf("nothing scarce is held at %s", k)
	}
	seen := map[string]int{}
	for i := range 16 {
		for bit := range 8 { // every bit of the hash tells two holders apart
			w := line.Who{}
			w[i] = 1 << bit
			seen[holdersKey("l", line.WhoAccount, w)+" "+holderMember(w)]++
		}
	}
	if len(seen) < 64 {
		t.Errorf("128 holders are at %d places", len(seen))
	}
}

// FuzzParseEdge feeds texts of edges: they are read or refused, and labels may hold anything.
func FuzzParseEdge(f *testing.F) {
	f.Add("a000000000000001", "5 03ae 1893471303000 0 1893471303000 35 0 0101 2,1 eu west 1")
	f.Add("0", "0 0 0 0 0 0 0 - - ")
	f.Add("x", "1 2 3")
	f.Add("1", "1 2 3 4 5 6 1 l 9,,9 label")
	f.Fuzz(func(t *testing.T, inc, text string) {
		e, err := parseEdge(inc, text, "0101")
		if err == nil && !strings.HasSuffix(text, e.Label) {
			t.Fatalf("label %q of %q", e.Label, text)
		}
	})
}

// FuzzInfo feeds answers of INFO.
func FuzzInfo(f *testing.F) {
	f.Add("run_id:a\r\nredis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\nrole:master\r\nslave0:state=online,lag=0")
	f.Add("redis_version:\n:::\nslave0:\nslave1:=")
	f.Fuzz(func(t *testing.T, text string) {
		i := parseInfo(text)
		if i.check() == nil && i["run_id"] == "" {
			t.Fatal("a server without a run id is fit")
		}
		if n := i.inSync(); n < 0 {
			t.Fatalf("%d replicas", n)
		}
	})
}
