package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/stanchion-queue/stanchion/perf/roomlive/rig"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/room"
)

const (
	sampleEvery = 50 * time.Millisecond
	countEvery  = 20 // samples: then the store's sets are counted one by one
	askEvery    = 10 // samples: then one of the edges is asked for what it tells fans
	guessEvery  = 4  // questions
	guessRanks  = 12
	reachS      = 60 // ranks are asked for that the line should reach within so long
)

// looker writes down what the room's store holds, with a client and a script of its own: it must not share a mistake with the program.
type looker struct {
	redis rueidis.Client
	rig   *rig.Rig
	dice  *rand.Rand

	mu      sync.Mutex
	samples []sample
	guesses []guess
	told    []told
}

func newLooker(r *rig.Rig, seed uint64) (*looker, error) {
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{r.RedisAddress()}, DisableCache: true, DisableRetry: true, ForceSingleClient: true,
		ConnWriteTimeout: time.Second, ClientName: "room-live"})
	if err != nil {
		return nil, fmt.Errorf("connect to redis: %w", err)
	}
	return &looker{redis: c, rig: r, dice: rand.New(rand.NewPCG(seed, 7))}, nil
}

// lookScript reads the room in one step. With ARGV[1] it also counts the places in every edge's set, in the controller's and among the
// ended ones: their sum must be what the room's counter says.
const lookScript = `
local p = string.sub(KEYS[1], 1, -2)
local c = redis.call('HMGET', KEYS[1], 'act', 'granted', 'freed', 'tick', 'late', 'lines', 'forecast')
local l = c[6] and string.match(c[6], '(%x+)%s*$')
local m = l and redis.call('HMGET', KEYS[1], 'called:' .. l .. ':0', 'total:' .. l .. ':0', 'sealed:' .. l) or {'0', '0', '0'}
local n = -1
if ARGV[1] == '1' then
  n = redis.call('ZCARD', p .. 'ses:0') + redis.call('ZCARD', p .. 'endq')
  for _, e in ipairs(redis.call('HKEYS', p .. 'edges')) do n = n + redis.call('ZCARD', p .. 'ses:' .. e) end
end
local t = redis.call('TIME')
local out = {l or '', c[7] or '', t[1], t[2], tostring(n)}
for i = 1, 5 do out[#out + 1] = c[i] or '0' end
for i = 1, 3 do out[#out + 1] = m[i] or '0' end
out[#out + 1] = tostring(redis.call('ZCARD', p .. 'endq'))
return out`

// look takes one sample. A store that does not answer is a sample too.
func (k *looker) look(ctx context.Context, count bool) sample {
	began := time.Now()
	s := sample{Counted: -1}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	flag := "0"
	if count {
		flag = "1"
	}
	out, err := k.redis.Do(ctx, k.redis.B().Eval().Script(lookScript).Numkeys(1).Key("stanchion:{"+rig.RoomName+"}:c").Arg(flag).Build()).AsStrSlice()
	s.At, s.Took = time.Now().UnixMicro(), time.Since(began).Microseconds()
	if err != nil || len(out) != 14 {
		return s
	}
	f, err := room.ParseForecast([]byte(out[1]))
	if err != nil {
		return s
	}
	n := make([]int64, len(out))
	for i, text := range out[2:] {
		if n[i+2], err = strconv.ParseInt(text, 10, 64); err != nil {
			return s
		}
	}
	// The instant of a sample is the server's, not ours after waiting for the answer.
	s.At, s.StoreMs = n[2]*second+n[3], n[2]*1000+n[3]/1000
	s.OK, s.Line, s.LimitedBy = true, out[0], f.Status.LimitedBy
	s.Counted, s.Active, s.Granted, s.Freed, s.TickMs, s.Late = n[4], n[5], n[6], n[7], n[8], n[9]
	s.Called, s.Total, s.Sealed = uint64(n[10]), uint64(n[11]), uint32(n[12])
	s.Ended = n[13]
	return s
}

// run samples until ctx ends.
func (k *looker) run(ctx context.Context) {
	t := time.NewTicker(sampleEvery)
	defer t.Stop()
	asked := make(chan struct{}, 1)
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		s := k.look(ctx, i%countEvery == 0)
		if ctx.Err() != nil {
			return
		}
		k.mu.Lock()
		if last := len(k.samples) - 1; last >= 0 && s.At < k.samples[last].At {
			s.At = k.samples[last].At // the answer of the one before timed out
		}
		k.samples = append(k.samples, s)
		k.mu.Unlock()
		if i%askEvery == 0 {
			select {
			case asked <- struct{}{}:
				n := i / askEvery
				go func() {
					defer func() { <-asked }()
					k.ask(ctx, n%len(k.rig.Targets()), n%guessEvery == 0 && s.OK)
				}()
			default: // an edge takes its time
			}
		}
	}
}

// ask notes what an edge tells fans at this moment, and the forecasts of some ranks in line.
func (k *looker) ask(ctx context.Context, edge int, guessing bool) {
	var st line.Status
	at := time.Now().UnixMicro()
	if err := k.rig.Status(ctx, edge, &st); err != nil || len(st.Lanes) == 0 {
		return // an edge that does not answer tells nothing
	}
	l := st.Lanes[0]
	k.mu.Lock()
	defer k.mu.Unlock()
	k.told = append(k.told, told{At: at, Edge: edge, Line: st.Line.String(), Called: l.Called})
	if !guessing || l.Called >= l.Total {
		return
	}
	reach := min(l.Total-l.Called, uint64(l.PerMinute/60*reachS)+1)
	for range guessRanks {
		rank := l.Called + k.dice.Uint64N(reach)
		if i, ok := l.Estimate(rank); ok && i.Point >= time.Second {
			k.guesses = append(k.guesses, guess{At: at, Rank: rank, Low: i.Low.Seconds(), Point: i.Point.Seconds(), High: i.High.Seconds()})
		}
	}
}

// last is the newest sample.
func (k *looker) last() (s sample) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.samples) > 0 {
		s = k.samples[len(k.samples)-1]
	}
	return s
}
