// Package vitals measures how the core is doing from its own answers: the share of failed ones and the 99th percentile of their time
// over the last few seconds. The waiting room slows down when it worsens.
package vitals

import (
	"net/http"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/prometheus/client_golang/prometheus"
)

// spanS is how many seconds a snapshot looks back.
const spanS = 5

// Recorder measures a handler. Safe for concurrent use.
type Recorder struct {
	now     func() time.Time
	seconds *prometheus.HistogramVec

	mu  sync.Mutex
	sec [spanS]second
}

type second struct {
	at     int64 // Unix seconds
	times  *hdrhistogram.Histogram
	failed int64
}

// longest is the longest time that is told apart, in microseconds.
const longest = 60 * 1000 * 1000

// New registers the metrics of a recorder.
func New(reg prometheus.Registerer, now func() time.Time) (*Recorder, error) {
	r := &Recorder{now: now, seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "stanchion_core_request_seconds", Help: "Time of the core's answers by class of status.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"class"})}
	for i := range r.sec {
		r.sec[i].times = hdrhistogram.New(1, longest, 2)
	}
	if err := reg.Register(r.seconds); err != nil {
		return nil, err
	}
	return r, nil
}

// Wrap measures next.
func (r *Recorder) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		began := r.now()
		s := &status{ResponseWriter: w, code: http.StatusOK}
		defer func() { // also when the handler panics; the server then answers nothing
			if p := recover(); p != nil {
				r.record(began, http.StatusInternalServerError)
				panic(p)
			}
			r.record(began, s.code)
		}()
		next.ServeHTTP(s, req)
	})
}

var classes = [...]string{"other", "1xx", "2xx", "3xx", "4xx", "5xx"}

func (r *Recorder) record(began time.Time, code int) {
	end := r.now()
	d := end.Sub(began)
	class := 0
	if code >= 100 && code < 600 {
		class = code / 100
	}
	r.seconds.WithLabelValues(classes[class]).Observe(d.Seconds())
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.at(end.Unix())
	_ = s.times.RecordValue(min(max(d.Microseconds(), 1), longest)) // clamped, so it cannot fail
	if code >= 500 && code != http.StatusServiceUnavailable {       // "one moment" is an answer, not a failure
		s.failed++
	}
}

func (r *Recorder) at(unix int64) *second {
	s := &r.sec[((unix%spanS)+spanS)%spanS]
	if s.at != unix {
		s.at, s.failed = unix, 0
		s.times.Reset()
	}
	return s
}

// Snapshot is the share of failed answers, the 99th percentile of their time and their number over the last five seconds.
func (r *Recorder) Snapshot() (errorRatio float64, p99 time.Duration, answers int64) {
	now := r.now().Unix()
	sum := hdrhistogram.New(1, longest, 2)
	var failed int64
	r.mu.Lock()
	for i := range r.sec {
		if now-r.sec[i].at < spanS {
			sum.Merge(r.sec[i].times)
			failed += r.sec[i].failed
		}
	}
	r.mu.Unlock()
	answers = sum.TotalCount()
	if answers == 0 {
		return 0, 0, 0
	}
	return float64(failed) / float64(answers), time.Duration(sum.ValueAtQuantile(99)) * time.Microsecond, answers
}

// status notes the status of an answer.
type status struct {
	http.ResponseWriter
	code  int
	wrote bool
}

func (s *status) WriteHeader(code int) {
	if !s.wrote && code >= 200 {
		s.code, s.wrote = code, true
	}
	s.ResponseWriter.WriteHeader(code)
}

func (s *status) Write(b []byte) (int, error) {
	s.wrote = true
	return s.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the server's writer.
func (s *status) Unwrap() http.ResponseWriter { return s.ResponseWriter }
