package order_test

import (
	"testing"

	"github.com/stanchion-queue/stanchion/core/storetest"
)

func TestCrowd(t *testing.T) { storetest.Crowd(t, storetest.SQLite, 12) }
