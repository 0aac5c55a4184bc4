package consulkv

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/time/rate"
)

// Bounds of a watch.
const (
	waitMost     = 5 * time.Minute              // of one blocking query
	waitSlack    = waitMost/16 + 10*time.Second // Consul adds up to a sixteenth of jitter; the rest is the way there and back
	churnRate    = 2                            // queries a second under churn
	churnBurst   = 10                           // queries that may follow each other at once
	retryFirst   = 250 * time.Millisecond       // pause after a failure, growing
	retryLongest = 15 * time.Second
)

// watch calls query in a loop until ctx ends, and returns ctx's error. query is one blocking query from index on; it
// handles the answer itself if the index has moved, and returns the new index.
func (c *Client) watch(ctx context.Context, name string, query func(ctx context.Context, index uint64) (uint64, error)) error {
	limit := rate.NewLimiter(churnRate, churnBurst)
	pause := backoff.NewExponentialBackOff() // random within half of each step, either way
	pause.InitialInterval, pause.MaxInterval = retryFirst, retryLongest
	var index uint64
	failing := false
	for {
		if err := limit.Wait(ctx); err != nil {
			<-ctx.Done() // Wait fails early when ctx would end first
			return ctx.Err()
		}
		asking, cancel := context.WithTimeout(ctx, waitMost+waitSlack)
		next, err := query(asking, index)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			c.metrics.errors.WithLabelValues(name).Inc()
			if !failing { // once an outage: the counter tells the rest
				c.log.Warn("consul cannot be asked; the last good answer stays in force", slog.String("watch", name), slog.Any("error", err))
			}
			failing, index = true, 0 // from the start: the answer to come may be from other servers
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pause.NextBackOff()):
			}
			continue
		}
		if failing {
			c.log.Info("consul answers again", slog.String("watch", name))
		}
		failing = false
		pause.Reset()
		c.metrics.contact.WithLabelValues(name).SetToCurrentTime()
		index = nextIndex(index, next)
	}
}

// nextIndex is the index to wait from: never one that is not greater than zero, and from the start again if Consul's
// went back (restored or replaced servers).
func nextIndex(before, got uint64) uint64 {
	switch {
	case got < before:
		return 0
	case got == 0:
		return 1
	}
	return got
}

// call bounds one call that is not meant to wait and names it in its error.
func call(ctx context.Context, doing string, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := do(ctx); err != nil {
		return fmt.Errorf("%s in consul: %w", doing, err)
	}
	return nil
}
