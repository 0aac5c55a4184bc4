package desk

import (
	"fmt"
	"strconv"
	"time"
)

// Drain is when the line will have been worked off at the present pace.
type Drain struct {
	Known bool    `json:"known" doc:"There is a forecast."`
	LowS  float64 `json:"low_s" doc:"Seconds until the line is empty: lower end of the interval."`
	HighS float64 `json:"high_s" doc:"The same, upper end."`
	Why   string  `json:"why,omitempty" doc:"Why there is none."`
}

// stopped are the limits under which nobody is called, whatever was called a minute ago.
var stopped = map[string]string{
	"paused":   "admission is paused",
	"schedule": "the room has not opened yet",
	"store":    "the room store does not answer",
}

// DrainOf forecasts between two paces: that of the last minute's calls, where the slowest lane decides, and that at which the room takes
// in those who come: the rate, or while it is full the places that become free.
func DrainOf(l Live) Drain {
	waiting := float64(l.Waiting())
	if waiting == 0 {
		return Drain{Known: true}
	}
	if why, ok := stopped[l.LimitedBy]; ok {
		return Drain{Why: why}
	}
	var called float64
	for _, lane := range l.Lanes {
		if lane.Waiting <= 0 {
			continue
		}
		if lane.PerMinute <= 0 {
			return Drain{Why: "nobody was called in the last minute"}
		}
		called = max(called, float64(lane.Waiting)/lane.PerMinute*60)
	}
	d := Drain{Known: true, LowS: called, HighS: called}
	pace := l.RatePerSecond
	if l.CorePerSecond > 0 {
		pace = min(pace, l.CorePerSecond)
	}
	if l.LimitedBy == "cap" && l.FreedPerSecond > 0 {
		pace = min(pace, l.FreedPerSecond)
	}
	if pace > 0 {
		coming := waiting
		if l.ShowUp > 0 {
			coming *= l.ShowUp
		}
		d.LowS, d.HighS = min(called, coming/pace), max(called, coming/pace)
	}
	return d
}

// effects says in words what changes will do to a room as it is now.
func effects(l *Live, changes []Change, fields []Field) []string {
	var out []string
	for _, c := range changes {
		switch c.Key {
		case ModeKey:
			if a, ok := ActionFor(c.To); ok {
				out = append(out, a.Does)
				if a.Warns != "" {
					out = append(out, a.Warns)
				}
			}
		case "cap":
			out = append(out, capEffect(l, c)...)
		case "rate_per_second":
			out = append(out, rateEffect(l, c)...)
		case "message":
			if c.To == "" {
				out = append(out, "The message disappears from the waiting page.")
			} else {
				out = append(out, fmt.Sprintf("Everybody in line reads it with the time, within seconds%s.", crowd(l)))
			}
		default:
			if f, ok := find(fields, index.ReplaceAllString(c.Key, "")); ok && f.Doc != "" {
				out = append(out, c.Key+": "+f.Doc)
			}
		}
	}
	return out
}

func crowd(l *Live) string {
	if l == nil || l.Waiting() == 0 {
		return ""
	}
	return ": " + Count(l.Waiting()) + " fans now"
}

func capEffect(l *Live, c Change) []string {
	from, errFrom := strconv.ParseInt(c.From, 10, 64)
	to, errTo := strconv.ParseInt(c.To, 10, 64)
	if errFrom != nil || errTo != nil {
		return nil
	}
	switch {
	case l == nil:
		return []string{"The room's state is not known now, so the effect cannot be told."}
	case to > from:
		return []string{fmt.Sprintf("%s more fans may be inside at once; %s of the %s places are taken now. The line moves as fast as the rate allows.",
			Count(to-from), Count(min(l.Inside, to)), Count(to))}
	case l.Inside > to:
		text := fmt.Sprintf("Nobody is put out, and nobody is let in until %s of the %s fans inside have left", Count(l.Inside-to), Count(l.Inside))
		if l.FreedPerSecond > 0 {
			text += ", in about " + Span(time.Duration(float64(l.Inside-to)/l.FreedPerSecond*float64(time.Second)))
		}
		return []string{text + "."}
	}
	return []string{fmt.Sprintf("%s of %s places are taken now; fewer fans will be called.", Count(l.Inside), Count(to))}
}

func rateEffect(l *Live, c Change) []string {
	to, err := strconv.ParseFloat(c.To, 64)
	if err != nil || to <= 0 {
		return nil
	}
	out := []string{fmt.Sprintf("At most %s fans are let in a minute.", Count(int64(to*60)))}
	if l == nil || l.Waiting() == 0 {
		return out
	}
	coming := float64(l.Waiting())
	if l.ShowUp > 0 {
		coming *= l.ShowUp
	}
	text := fmt.Sprintf("The %s fans in line then take %s at least", Count(l.Waiting()), Span(time.Duration(coming/to*float64(time.Second))))
	if from, err := strconv.ParseFloat(c.From, 64); err == nil && from > 0 {
		text += fmt.Sprintf(", instead of %s at least", Span(time.Duration(coming/from*float64(time.Second))))
	}
	out = append(out, text+"; the cap may make it longer.")
	if l.LimitedBy != "" && l.LimitedBy != "rate" && to > l.RatePerSecond {
		out = append(out, fmt.Sprintf("The rate is not what limits admission now (%s is), so a higher one changes nothing yet.", l.LimitedBy))
	}
	return out
}

// Count writes a whole number with thousands separated.
func Count(n int64) string {
	s := strconv.FormatInt(n, 10)
	from := 0
	if n < 0 {
		from = 1
	}
	for i := len(s) - 3; i > from; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Span writes a length of time as people say it, in at most two units.
func Span(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	switch {
	case s < 0:
		return "0 s"
	case s < 120:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min", (s+30)/60)
	case s < 48*3600:
		return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
	}
	return fmt.Sprintf("%d days", s/86400)
}
