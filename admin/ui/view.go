package ui

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/stanchion-queue/stanchion/admin/desk"
)

// words puts a look into the texts that the page shows, by the name of the place. Server and stream use the same, so that a page is
// right at first paint and stays in the same words.
func words(l desk.Look) map[string]string {
	w := map[string]string{
		"age": "never", "phase": "not known", "waiting": dash, "lanes": "", "inside": dash, "cap": dash, "door": dash,
		"admitted": dash, "rate": dash, "limit": "not known", "left": dash, "sold": "", "drain": "cannot say", "drainwhy": l.Drain.Why,
		"arrivals": dash, "edges": dash, "error": l.Error, "opens": "", "cause": "",
	}
	if l.Live.At.IsZero() {
		return w
	}
	v := l.Live
	w["age"] = age(time.Duration(l.AgeMS) * time.Millisecond)
	w["phase"], w["mode"] = desk.PhaseName(v.Phase), modeName(v.Mode)
	w["waiting"], w["lanes"] = desk.Count(v.Waiting()), lanes(v.Lanes)
	w["inside"], w["cap"], w["door"] = desk.Count(v.Inside), desk.Count(v.Cap), desk.Count(v.AtDoor)
	w["admitted"], w["arrivals"] = rate(l.Point.Admissions), rate(l.Point.Arrivals)
	w["rate"] = rate(float32(v.RatePerSecond))
	w["limit"] = limitName(v.LimitedBy)
	w["edges"] = desk.Count(int64(v.Edges))
	w["cause"] = causes[v.Cause]
	if v.OpensAt != nil && v.OpensAt.After(l.Time) {
		w["opens"] = "opens in " + desk.Span(v.OpensAt.Sub(l.Time))
	}
	switch {
	case !l.Drain.Known:
	case l.Drain.HighS == 0:
		w["drain"] = "nobody waits"
	default:
		low, high := desk.Span(seconds(l.Drain.LowS)), desk.Span(seconds(l.Drain.HighS))
		w["drain"] = low
		if low != high {
			w["drain"] = low + " to " + high
		}
	}
	if s := l.Sale; s != nil {
		w["left"] = desk.Count(s.Sellable)
		w["sold"] = fmt.Sprintf("%s sold, %s held", desk.Count(s.Sold), desk.Count(s.Held))
	}
	return w
}

const dash = "–"

func seconds(s float64) time.Duration {
	return time.Duration(min(s, 1e9) * float64(time.Second))
}

func age(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return desk.Span(d)
}

// rate is a number per second with the digits that matter.
func rate(v float32) string {
	f := float64(v)
	switch {
	case math.IsNaN(f):
		return dash
	case f >= 100:
		return desk.Count(int64(math.Round(f)))
	case f >= 10:
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return strconv.FormatFloat(f, 'f', 2, 64)
}

func lanes(list []desk.Lane) string {
	if len(list) < 2 {
		return ""
	}
	text := ""
	for i, l := range list {
		if i > 0 {
			text += ", "
		}
		text += l.Name + " " + desk.Count(l.Waiting)
	}
	return text
}

var limits = map[string]string{
	"":         "nothing: whoever comes is let in",
	"cap":      "the cap: all places are taken",
	"rate":     "the rate",
	"core":     "the origin: it bears no more",
	"stock":    "what is left to sell",
	"paused":   "a pause",
	"nobody":   "nobody: no one is waiting",
	"store":    "the room store: it does not answer",
	"schedule": "the schedule: not open yet",
}

func limitName(l string) string {
	if text, ok := limits[l]; ok {
		return text
	}
	return l
}

var causes = map[string]string{
	"paused":       "Forecast grew: admission was paused.",
	"slower-core":  "Forecast grew: the origin bears less.",
	"rate":         "Forecast grew: the rate was lowered.",
	"fewer-absent": "Forecast grew: more of the called fans come.",
}

func modeName(mode string) string {
	switch mode {
	case "normal":
		return "normal admission"
	case "queue-all":
		return "everybody queues"
	case "admit-all":
		return "everybody is admitted"
	case "paused":
		return "paused"
	case "draining":
		return "draining"
	case "maintenance":
		return "closed for maintenance"
	case "ended":
		return "ended"
	}
	return mode
}

// tone is how alarming a look is: "", warm or bad.
func tone(l desk.Look) string {
	switch {
	case l.Stale:
		return "stale"
	case l.Live.Mode == "admit-all", l.Live.Mode == "maintenance", l.Live.LimitedBy == "store":
		return "bad"
	case l.Live.Mode == "paused", l.Live.Mode == "draining", l.Live.LimitedBy == "core":
		return "warm"
	}
	return ""
}
