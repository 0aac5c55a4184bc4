package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/problem"
	"github.com/stanchion-queue/stanchion/inventory/chart"
)

// Stage is the inventory as the ticket office needs it to put a performance on sale.
type Stage interface {
	ImportPerformance(ctx context.Context, performance uuid.UUID, plan []byte, blockSeats int, channels map[string]int16) error
	ImportProgress(ctx context.Context, performance uuid.UUID) (done, total int, err error)
	SaleState(ctx context.Context, performance uuid.UUID) (string, error)
	OpenSale(ctx context.Context, performance uuid.UUID) error
	PauseSale(ctx context.Context, performance uuid.UUID) error
	DrainSale(ctx context.Context, performance uuid.UUID) error
	CloseSale(ctx context.Context, performance uuid.UUID) error
}

// registerStage adds what only the staff may do with seats.
func (a *api) registerStage(h huma.API, staff []*problem.Kind) {
	plan := operation(http.MethodPut, "put-plan", "/performances/{performance}/plan", "Bring a seating plan in; its seats are made in the background, closed for sale",
		"staff", http.StatusAccepted, staff, kinds(problem.PlanDiffers, problem.OneMoment))
	plan.MaxBodyBytes, plan.SkipValidateBody = chart.MaxDocumentBytes, true // the plan's own reader is stricter and says more
	huma.Register(h, plan, a.putPlan)
	huma.Register(h, operation(http.MethodGet, "get-plan", "/performances/{performance}/plan", "How far the seats are made, and the state of the sale",
		"staff", http.StatusOK, staff, kinds(problem.NotFound, problem.OneMoment)), a.getPlan)
	huma.Register(h, operation(http.MethodPut, "put-sale", "/performances/{performance}/sale", "Open, pause, drain or close the sale",
		"staff", http.StatusOK, staff, kinds(problem.NotFound, problem.OneMoment)), a.putSale)
}

// StageState is how far a performance's seats are.
type StageState struct {
	BlocksMade  int    `json:"blocks_made"`
	BlocksTotal int    `json:"blocks_total"`
	Sale        string `json:"sale" doc:"closed, open, paused or draining"`
}

func (a *api) stageState(ctx context.Context, id uuid.UUID) (*body[StageState], error) {
	var s StageState
	var err error
	if s.BlocksMade, s.BlocksTotal, err = a.Stage.ImportProgress(ctx, id); err != nil {
		return nil, a.fail(ctx, err)
	}
	if s.Sale, err = a.Stage.SaleState(ctx, id); err != nil {
		return nil, a.fail(ctx, err)
	}
	return fresh(s), nil
}

// putPlan takes our own format or pretix's. Repeating it is harmless; another plan for the same performance is refused, because
// tickets are printed from it.
func (a *api) putPlan(ctx context.Context, in *struct {
	StaffHeader
	Performance uuid.UUID `path:"performance"`
	RawBody     []byte    `contentType:"application/json"`
}) (*body[StageState], error) {
	if err := a.staff(ctx, in.StaffToken); err != nil {
		return nil, err
	}
	err := a.Stage.ImportPerformance(ctx, in.Performance, slices.Clone(in.RawBody), a.BlockSeats, nil)
	var format *chart.FormatError
	var coded interface{ Code() string }
	switch {
	case errors.As(err, &format):
		p := problem.New(problem.Invalid, "The seating plan is not as it must be; nothing of it was taken.")
		p.Errors = []problem.Field{{Field: format.Path, Value: format.Value, Want: format.Problem}}
		return nil, a.fail(ctx, p)
	case errors.As(err, &coded) && coded.Code() == "conflict":
		return nil, a.fail(ctx, problem.New(problem.PlanDiffers, ""))
	case errors.As(err, &coded) && coded.Code() == "bad-request":
		return nil, a.fail(ctx, problem.New(problem.Invalid, fmt.Sprint(err)))
	case err != nil:
		return nil, a.fail(ctx, err)
	}
	return a.stageState(ctx, in.Performance)
}

func (a *api) getPlan(ctx context.Context, in *struct {
	StaffHeader
	Performance uuid.UUID `path:"performance"`
}) (*body[StageState], error) {
	if err := a.staff(ctx, in.StaffToken); err != nil {
		return nil, err
	}
	return a.stageState(ctx, in.Performance)
}

func (a *api) putSale(ctx context.Context, in *struct {
	StaffHeader
	Performance uuid.UUID `path:"performance"`
	Body        struct {
		Sale string `json:"sale" enum:"open,paused,draining,closed"`
	}
}) (*body[StageState], error) {
	if err := a.staff(ctx, in.StaffToken); err != nil {
		return nil, err
	}
	act := map[string]func(context.Context, uuid.UUID) error{"open": a.Stage.OpenSale, "paused": a.Stage.PauseSale, "draining": a.Stage.DrainSale, "closed": a.Stage.CloseSale}
	if err := act[in.Body.Sale](ctx, in.Performance); err != nil {
		return nil, a.fail(ctx, err)
	}
	return a.stageState(ctx, in.Performance)
}
