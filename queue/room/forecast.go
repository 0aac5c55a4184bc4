package room

import (
	"encoding/json"
	"fmt"

	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/pace"
)

// Forecast is what the controller publishes with every call, a quarter of a second apart. All edges answer fans from it, so
// that every fan reads the same status whichever edge answers.
type Forecast struct {
	Status line.Status `json:"status"` // all but server_time
	// Velocity is how many ranks of each lane were called per second over the last minute: the signed schedule by which a
	// cut-off edge goes on.
	Velocity []float64 `json:"velocity"`
	// Published grows when the current line's published part has changed and edges should read it again.
	Published uint64 `json:"published"`
	// Bypass: an operator has switched the room off.
	Bypass bool `json:"bypass,omitempty"`

	Gauges Gauges `json:"gauges"`
	// Origin is how what the room protects was doing by its last reports; nil when nobody has reported.
	Origin *OriginState `json:"origin,omitempty"`
	// Filled is since when the line's speed means something, so that a successor's forecasts go on.
	Filled *Filled `json:"filled,omitempty"`
	// Law is what the controller's law has learned, so that a successor goes on where this one stopped.
	Law *pace.State `json:"law,omitempty"`
}

// OriginState is what the parts that report on the origin have said: the worst of those heard of lately, or the last word of all.
type OriginState struct {
	P99MS      float64 `json:"p99_ms"`
	ErrorRatio float64 `json:"error_ratio"` // share of failed answers, 0 to 1
	AtMs       int64   `json:"at_ms"`       // store time of the newest report, Unix milliseconds
}

// Filled says when a room was first full behind its line, or its line first moved at the pace of a rate.
type Filled struct {
	AtMs int64 `json:"at_ms"` // store time, Unix milliseconds
	Full bool  `json:"full"`  // full; else only the rate has limited so far
}

// Gauges are the controller's own measures, for consoles and metrics.
type Gauges struct {
	Active        int64   `json:"active"`          // sessions inside
	Cap           int64   `json:"cap"`             //
	Parked        int64   `json:"parked"`          // called fans waiting at the doors
	RatePerSecond float64 `json:"rate_per_second"` // in force
	CorePerSecond float64 `json:"core_per_second"` // what the core can bear; 0: not known
	ShowUp        float64 `json:"show_up"`         // share of called fans who come
	AnswerS       float64 `json:"answer_s"`        // mean time from call to door
	FreedPerS     float64 `json:"freed_per_second"`
	Expected      float64 `json:"expected"` // called fans still to come
	Wanted        float64 `json:"wanted"`
	Granted60     int64   `json:"granted_60s"`
	GrantedTotal  int64   `json:"granted_total"` // fans let in since the room was created
	Edges         int     `json:"edges"`
	SealLagMs     int64   `json:"seal_lag_ms"`
}

// ParseForecast reads a published forecast; an empty one gives a zero value.
func ParseForecast(doc []byte) (Forecast, error) {
	var f Forecast
	if len(doc) == 0 {
		return f, nil
	}
	if err := json.Unmarshal(doc, &f); err != nil {
		return Forecast{}, fmt.Errorf("read forecast: %w", err)
	}
	return f, nil
}

// Encode is the forecast as JSON.
func (f Forecast) Encode() ([]byte, error) {
	doc, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encode forecast: %w", err)
	}
	return doc, nil
}
