package agent

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// staleMs is how old the last answer of the store, or the controller's last call, may be before the room counts as stale.
const staleMs = 3_000

// snapshot is all that a request needs of a room, made anew by every flush reply. Immutable.
type snapshot struct {
	view     *line.View
	control  queue.Control
	settings room.Settings
	codes    map[[32]byte]struct{}
	forecast room.Forecast
	books    map[line.ID]*book // claimable lines
}

func (s *snapshot) current() line.ID { return s.control.Line() }

// ready reports whether the agent has heard of the room's line yet.
func (s *snapshot) ready() bool { return s.books[s.current()] != nil }

// firstSnapshot is what a room shows before the store has answered.
func firstSnapshot(name string) *snapshot {
	s := &snapshot{settings: room.Defaults(), books: map[line.ID]*book{}}
	s.view = s.makeView(name, 0, true, false)
	return s
}

// makeView computes what the edge sees. Without an answer of store or controller for 3 s the room is stale: pages go on and say
// that the store limits; closed and open are what after_outage asks for once the outage bound is over.
func (s *snapshot) makeView(name string, storeMs int64, stale bool, over bool) *line.View {
	st := s.forecast.Status
	st.Room, st.Line = name, s.current()
	st.ServerTime = time.UnixMilli(storeMs).UTC()
	if st.Phase == "" {
		st.Phase, st.LimitedBy = line.PhaseWaiting, line.LimitStore
		st.Poll = line.Poll{MinMs: 2000, MaxMs: 10_000, Spread: 0.2}
	}
	if st.Lanes == nil {
		st.Lanes = []line.LaneStatus{}
		if b := s.books[s.current()]; b != nil {
			for i, l := range b.opened.Record.Lanes {
				st.Lanes = append(st.Lanes, line.LaneStatus{Name: l.Name, Called: b.lanes[i].Called, Total: b.lanes[i].Total})
			}
		}
	}
	if stale {
		st.LimitedBy = line.LimitStore
	}
	v := &line.View{
		Room: name, Line: st.Line, Phase: st.Phase, StoreMs: storeMs, Stale: stale,
		Open:   !stale && s.control.Open && s.control.Settings.Pause == "" && st.Phase == line.PhaseOpen,
		Bypass: s.forecast.Bypass || over && s.settings.AfterOutage == room.AfterOpen,
		Closed: over && s.settings.AfterOutage == room.AfterClosed,
		IdleS:  s.settings.IdleS, StayMaxS: s.settings.StayMaxS,
		Status: st,
	}
	raw, err := json.Marshal(st)
	if err != nil { // a NaN in an estimate, at worst; the page lives without
		for i := range st.Lanes {
			st.Lanes[i].ETA, st.Lanes[i].PerMinute = line.ETA{}, 0
		}
		raw, _ = json.Marshal(st)
	}
	v.StatusRaw = raw
	v.ETag = `W/"` + strconv.FormatUint(st.Version, 36) + "-" + strconv.FormatInt(storeMs/1000, 36) + `"`
	return v
}
