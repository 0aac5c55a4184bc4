package bustest

import (
	"context"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/core/bus"
	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/sqlstore"
	"github.com/stanchion-queue/stanchion/core/storetest"
)

// Store opens an embedded store for a test.
func Store(t *testing.T) *sqlstore.Store {
	t.Helper()
	s := storetest.SQLite(t)(time.Now)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// Emit returns how to write events into a store's outbox.
func Emit(s *sqlstore.Store) func(ctx context.Context, es ...bus.Event) error {
	return func(ctx context.Context, es ...bus.Event) error {
		return s.Tx(ctx, func(tx order.Tx) error {
			for _, e := range es {
				if err := tx.Emit(ctx, e); err != nil {
					return err
				}
			}
			return nil
		})
	}
}
