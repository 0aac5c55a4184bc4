package sqlitestock

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/inventory"
)

// PutChart implements inventory.Registry.
func (s *Stock) PutChart(ctx context.Context, hash [32]byte, document []byte) error {
	return s.submit(ctx, func(ctx context.Context) error {
		_, err := s.conn.ExecContext(ctx, `INSERT INTO chart (hash, document) VALUES (?, ?) ON CONFLICT DO NOTHING`, hash[:], document)
		if err != nil {
			return fmt.Errorf("store the chart: %w", err)
		}
		return nil
	})
}

// Chart implements inventory.Registry.
func (s *Stock) Chart(ctx context.Context, hash [32]byte) ([]byte, error) {
	var document []byte
	err := s.reader.QueryRowContext(ctx, `SELECT document FROM chart WHERE hash = ?`, hash[:]).Scan(&document)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, inventory.ErrNoSuchPerformance
	}
	if err != nil {
		return nil, fmt.Errorf("read a chart: %w", err)
	}
	return document, nil
}

// AddPerformance implements inventory.Registry.
func (s *Stock) AddPerformance(ctx context.Context, p inventory.Performance) (inventory.Performance, error) {
	channels, err := json.Marshal(p.Channels)
	if err != nil {
		return p, err
	}
	err = s.submit(ctx, func(ctx context.Context) error {
		_, err := s.conn.ExecContext(ctx, `INSERT INTO performance (id, chart, block_seats, blocks, channels, imported_at, complete, sale, settled, version)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1) ON CONFLICT DO NOTHING`,
			p.ID[:], p.Chart[:], p.BlockSeats, p.Blocks, string(channels), p.ImportedAt.UnixMilli(), p.Complete, p.Sale, p.Settled)
		return err
	})
	if err != nil {
		return p, fmt.Errorf("register performance %v: %w", p.ID, err)
	}
	return s.Performance(ctx, p.ID)
}

const performanceColumns = `SELECT id, chart, block_seats, blocks, channels, imported_at, complete, sale, settled, version FROM performance `

func scanPerformance(scan func(...any) error) (inventory.Performance, error) {
	var p inventory.Performance
	var id, chart []byte
	var channels string
	var at int64
	if err := scan(&id, &chart, &p.BlockSeats, &p.Blocks, &channels, &at, &p.Complete, &p.Sale, &p.Settled, &p.Version); err != nil {
		return p, err
	}
	p.ID, p.ImportedAt = uuid.UUID(id), time.UnixMilli(at).UTC()
	copy(p.Chart[:], chart)
	if err := json.Unmarshal([]byte(channels), &p.Channels); err != nil {
		return p, fmt.Errorf("channels of performance %v: %w", p.ID, err)
	}
	return p, nil
}

// Performance implements inventory.Registry.
func (s *Stock) Performance(ctx context.Context, id uuid.UUID) (inventory.Performance, error) {
	p, err := scanPerformance(s.reader.QueryRowContext(ctx, performanceColumns+`WHERE id = ?`, id[:]).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return p, inventory.ErrNoSuchPerformance
	}
	if err != nil {
		return p, fmt.Errorf("read performance %v: %w", id, err)
	}
	return p, nil
}

// Performances implements inventory.Registry.
func (s *Stock) Performances(ctx context.Context) ([]inventory.Performance, error) {
	rows, err := s.reader.QueryContext(ctx, performanceColumns+`ORDER BY imported_at, id`)
	if err != nil {
		return nil, fmt.Errorf("list performances: %w", err)
	}
	defer rows.Close()
	var all []inventory.Performance
	for rows.Next() {
		p, err := scanPerformance(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("list performances: %w", err)
		}
		all = append(all, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list performances: %w", err)
	}
	return all, nil
}

// UpdatePerformance implements inventory.Registry.
func (s *Stock) UpdatePerformance(ctx context.Context, p inventory.Performance) error {
	var changed int64
	err := s.submit(ctx, func(ctx context.Context) error {
		res, err := s.conn.ExecContext(ctx, `UPDATE performance SET complete = ?, sale = ?, settled = ?, version = version + 1 WHERE id = ? AND version = ?`,
			p.Complete, p.Sale, p.Settled, p.ID[:], p.Version)
		if err != nil {
			return err
		}
		changed, err = res.RowsAffected()
		return err
	})
	if err != nil {
		return fmt.Errorf("change performance %v: %w", p.ID, err)
	}
	if changed == 0 {
		return inventory.ErrVersion
	}
	return nil
}
