package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/stanchion-queue/stanchion/config"
	"github.com/stanchion-queue/stanchion/inventory"
	"github.com/stanchion-queue/stanchion/queue"
)

var errLater = errors.New("not in this build")

func (p *plant) openRedis(context.Context, config.RoomStore) (queue.Store, error) {
	return nil, errLater
}
func (p *plant) openCQL(context.Context, config.SeatStore) (inventory.Store, func() error, error) {
	return nil, nil, errLater
}
func (p *plant) inventoryClient() (inventory.Desk, error)          { return nil, errLater }
func (p *plant) serveInventory(*http.ServeMux, *inventory.Service) {}
