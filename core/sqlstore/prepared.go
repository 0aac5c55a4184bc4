package sqlstore

import (
	"context"
	"database/sql"
	"sync"
)

// statements keeps the statements of a pool prepared: SQLite spends a third of
// its time on parsing, and database/sql parses anew each time. (The driver for
// PostgreSQL remembers statements by itself.) A statement is prepared outside
// of transactions, because the writer's pool has one connection, and is used
// from the next time on.
type statements struct {
	pool *sql.DB
	mu   sync.RWMutex
	text map[string]*sql.Stmt // nil: wanted
}

// mostStatements bounds what is kept. The core has about a hundred.
const mostStatements = 512

func newStatements(pool *sql.DB) *statements {
	return &statements{pool: pool, text: map[string]*sql.Stmt{}}
}

// find returns a prepared statement or nil, and then wants it.
func (s *statements) find(query string) *sql.Stmt {
	s.mu.RLock()
	st, known := s.text[query]
	full := len(s.text) >= mostStatements
	s.mu.RUnlock()
	if known || full {
		return st
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.text[query]; !known {
		s.text[query] = nil
	}
	return nil
}

// prepare prepares what is wanted. Call it outside of transactions. What
// cannot be prepared is executed as text and gives its error there.
func (s *statements) prepare(ctx context.Context) {
	s.mu.RLock()
	var wanted []string
	for q, st := range s.text {
		if st == nil {
			wanted = append(wanted, q)
		}
	}
	s.mu.RUnlock()
	for _, q := range wanted {
		st, err := s.pool.PrepareContext(ctx, q)
		if err != nil {
			continue
		}
		s.mu.Lock()
		if s.text[q] == nil {
			s.text[q], st = st, nil
		}
		s.mu.Unlock()
		if st != nil {
			_ = st.Close() // another goroutine was first
		}
	}
}

func (s *statements) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for q, st := range s.text {
		if st != nil {
			_ = st.Close()
		}
		delete(s.text, q)
	}
}

// prepared is a pool, or a transaction on it, that uses prepared statements.
type prepared struct {
	Querier // the pool or transaction itself
	s       *statements
	tx      *sql.Tx // nil: the pool
}

func (p prepared) stmt(ctx context.Context, query string) *sql.Stmt {
	if p.tx == nil {
		p.s.prepare(ctx)
	}
	st := p.s.find(query)
	if st != nil && p.tx != nil {
		st = p.tx.StmtContext(ctx, st)
	}
	return st
}

func (p prepared) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if st := p.stmt(ctx, query); st != nil {
		return st.ExecContext(ctx, args...)
	}
	return p.Querier.ExecContext(ctx, query, args...)
}

func (p prepared) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if st := p.stmt(ctx, query); st != nil {
		return st.QueryContext(ctx, args...)
	}
	return p.Querier.QueryContext(ctx, query, args...)
}

func (p prepared) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if st := p.stmt(ctx, query); st != nil {
		return st.QueryRowContext(ctx, args...)
	}
	return p.Querier.QueryRowContext(ctx, query, args...)
}

// once is for a statement whose text is unlikely to come again, such as one
// with a list of numbers: it is not worth to be kept.
func once(q Querier) Querier {
	if p, ok := q.(prepared); ok {
		return p.Querier
	}
	return q
}
