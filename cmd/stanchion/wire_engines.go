package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/stanchion-queue/stanchion/config"
	"github.com/stanchion-queue/stanchion/inventory"
	inventoryapi "github.com/stanchion-queue/stanchion/inventory/api"
	"github.com/stanchion-queue/stanchion/inventory/cqlstock"
	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/redisqueue"
)

// password reads a file that holds one password; no file, no password.
func password(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

func (p *plant) openRedis(ctx context.Context, s config.RoomStore) (queue.Store, error) {
	o := redisqueue.Options{Addresses: s.Addresses, SentinelMaster: s.SentinelName, Cluster: s.Cluster, MinReplicas: s.MinReplicas, Username: s.Username,
		WriteTimeout: time.Duration(s.TimeoutMS) * time.Millisecond, Logger: p.log, Registerer: p.registry}
	var err error
	if o.Password, err = password(s.PasswordFile); err != nil {
		return nil, fmt.Errorf("stores.rooms.password_file: %w", err)
	}
	if s.TLS.Enabled {
		if o.TLS, err = clientTLS(s.TLS); err != nil {
			return nil, fmt.Errorf("stores.rooms.tls: %w", err)
		}
	}
	store, err := redisqueue.Open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("stores.rooms: %w", err)
	}
	return store, nil
}

func (p *plant) openCQL(ctx context.Context, s config.SeatStore) (inventory.Store, func() error, error) {
	o := cqlstock.Options{Addresses: s.Addresses, Keyspace: s.Keyspace, Datacenter: s.Datacenter, Timeout: time.Duration(s.TimeoutMS) * time.Millisecond,
		Username: s.Username, Logger: p.log}
	var err error
	if o.Password, err = password(s.PasswordFile); err != nil {
		return nil, nil, fmt.Errorf("stores.seats.password_file: %w", err)
	}
	if s.TLS.Enabled {
		if o.TLS, err = clientTLS(s.TLS); err != nil {
			return nil, nil, fmt.Errorf("stores.seats.tls: %w", err)
		}
	}
	if err := cqlstock.CreateSchema(ctx, o, cqlstock.Schema{Replicas: map[string]int{s.Datacenter: s.Replication}}); err != nil {
		return nil, nil, fmt.Errorf("stores.seats: %w", err)
	}
	store, err := cqlstock.Open(o)
	if err != nil {
		return nil, nil, fmt.Errorf("stores.seats: %w", err)
	}
	return store, func() error { store.Close(); return nil }, nil
}

func (p *plant) serveInventory(internal *http.ServeMux, s *inventory.Service) {
	h := inventoryapi.Handler(s, p.log)
	internal.Handle("/internal/v1/performances", h)
	internal.Handle("/internal/v1/performances/", h)
}

func (p *plant) inventoryClient() (inventory.Desk, error) {
	bases, c, err := p.client(config.InventoryRole, 0) // each call brings its deadline
	if err != nil {
		return nil, err
	}
	return inventoryapi.NewClient(bases, c)
}
