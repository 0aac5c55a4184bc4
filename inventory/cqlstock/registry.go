package cqlstock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gocql/gocql"
	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"

	"github.com/stanchion-queue/stanchion/inventory"
)

// partBytes keeps a cell of a chart well below what a node takes in one mutation.
const partBytes = 256 << 10

// PutChart implements inventory.Registry. Parts never change once written, so plain writes do; the head comes last.
func (s *Stock) PutChart(ctx context.Context, hash [32]byte, document []byte) error {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		return fmt.Errorf("compress a chart: %w", err)
	}
	packed := enc.EncodeAll(document, nil)
	if err := enc.Close(); err != nil {
		return fmt.Errorf("compress a chart: %w", err)
	}
	parts := 0
	for part := range slices.Chunk(packed, partBytes) {
		err := s.writes.Query(`INSERT INTO chart_part (hash, part, data) VALUES (?, ?, ?)`, hash[:], parts, part).WithContext(ctx).Exec()
		if err != nil {
			return fmt.Errorf("store part %d of a chart: %w", parts, err)
		}
		parts++
	}
	err = s.writes.Query(`INSERT INTO chart (hash, parts, bytes) VALUES (?, ?, ?)`, hash[:], parts, len(document)).WithContext(ctx).Exec()
	if err != nil {
		return fmt.Errorf("store a chart: %w", err)
	}
	return nil
}

// Chart implements inventory.Registry.
func (s *Stock) Chart(ctx context.Context, hash [32]byte) ([]byte, error) {
	var parts, size int
	err := s.reads.Query(`SELECT parts, bytes FROM chart WHERE hash = ?`, hash[:]).WithContext(ctx).Scan(&parts, &size)
	if errors.Is(err, gocql.ErrNotFound) {
		return nil, inventory.ErrNoSuchPerformance
	}
	if err != nil {
		return nil, fmt.Errorf("read a chart: %w", err)
	}
	var packed []byte
	for n := range parts {
		var part []byte
		if err := s.reads.Query(`SELECT data FROM chart_part WHERE hash = ? AND part = ?`, hash[:], n).WithContext(ctx).Scan(&part); err != nil {
			return nil, fmt.Errorf("read part %d of a chart: %w", n, err)
		}
		packed = append(packed, part...)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(uint64(max(size, 1<<20))))
	if err != nil {
		return nil, fmt.Errorf("unpack a chart: %w", err)
	}
	defer dec.Close()
	document, err := dec.DecodeAll(packed, make([]byte, 0, size))
	if err != nil {
		return nil, fmt.Errorf("unpack a chart: %w", err)
	}
	return document, nil
}

const performanceColumns = `SELECT id, chart, block_seats, blocks, channels, imported_at, complete, sale, settled, version FROM performance`

// AddPerformance implements inventory.Registry.
func (s *Stock) AddPerformance(ctx context.Context, p inventory.Performance) (inventory.Performance, error) {
	_, err := s.writes.Query(`INSERT INTO performance (id, chart, block_seats, blocks, channels, imported_at, complete, sale, settled, version)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1) IF NOT EXISTS`,
		gocql.UUID(p.ID), p.Chart[:], p.BlockSeats, p.Blocks, p.Channels, p.ImportedAt, p.Complete, int8(p.Sale), p.Settled).
		WithContext(ctx).SerialConsistency(gocql.LocalSerial).MapScanCAS(map[string]any{})
	if err != nil {
		return p, fmt.Errorf("register performance %v: %w", p.ID, err)
	}
	return s.Performance(ctx, p.ID)
}

func scanPerformance(scan func(...any) error) (inventory.Performance, error) {
	var p inventory.Performance
	var id gocql.UUID
	var chart []byte
	var at time.Time
	var sale int8
	err := scan(&id, &chart, &p.BlockSeats, &p.Blocks, &p.Channels, &at, &p.Complete, &sale, &p.Settled, &p.Version)
	p.ID, p.ImportedAt, p.Sale = uuid.UUID(id), at.UTC(), inventory.State(sale)
	copy(p.Chart[:], chart)
	return p, err
}

// Performance implements inventory.Registry.
func (s *Stock) Performance(ctx context.Context, id uuid.UUID) (inventory.Performance, error) {
	q := s.reads.Query(performanceColumns+` WHERE id = ?`, gocql.UUID(id)).WithContext(ctx)
	p, err := scanPerformance(q.Consistency(gocql.Consistency(gocql.LocalSerial)).Scan)
	if errors.Is(err, gocql.ErrNotFound) {
		return p, inventory.ErrNoSuchPerformance
	}
	if err != nil {
		return p, fmt.Errorf("read performance %v: %w", id, err)
	}
	return p, nil
}

// Performances implements inventory.Registry.
func (s *Stock) Performances(ctx context.Context) ([]inventory.Performance, error) {
	rows := s.reads.Query(performanceColumns).WithContext(ctx).Iter().Scanner()
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
	slices.SortFunc(all, func(a, b inventory.Performance) int {
		return cmp.Or(a.ImportedAt.Compare(b.ImportedAt), slices.Compare(a.ID[:], b.ID[:]))
	})
	return all, nil
}

// UpdatePerformance implements inventory.Registry.
func (s *Stock) UpdatePerformance(ctx context.Context, p inventory.Performance) error {
	applied, err := s.writes.Query(`UPDATE performance SET complete = ?, sale = ?, settled = ?, version = ? WHERE id = ? IF version = ?`,
		p.Complete, int8(p.Sale), p.Settled, p.Version+1, gocql.UUID(p.ID), p.Version).
		WithContext(ctx).SerialConsistency(gocql.LocalSerial).MapScanCAS(map[string]any{})
	if err != nil {
		return fmt.Errorf("change performance %v: %w", p.ID, err)
	}
	if !applied {
		return inventory.ErrVersion
	}
	return nil
}
