package cqlstock

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Schema says how the keyspace is made. The statements are the same for ScyllaDB and Apache Cassandra.
type Schema struct {
	// Replicas per data centre; at least one.
	Replicas map[string]int
	// Tablets is ScyllaDB's switch: nil leaves it unsaid (Cassandra does not know the option). Lightweight transactions
	// need vnodes in releases before 2025.4, so false there.
	Tablets *bool
}

var name = regexp.MustCompile(`^[a-z][a-z0-9_]{0,47}$`)

// CreateSchema creates the keyspace and the tables that do not exist yet. It is meant to be run once by an operator, or
// at the start of a small installation; each statement waits for the nodes to agree.
func CreateSchema(ctx context.Context, opt Options, schema Schema) error {
	if err := opt.fill(); err != nil {
		return err
	}
	if len(schema.Replicas) == 0 {
		return fmt.Errorf("create the seat schema: no data centre named")
	}
	var replicas []string
	for dc, n := range schema.Replicas {
		if n < 1 || strings.ContainsAny(dc, `'\`) || dc == "" {
			return fmt.Errorf("create the seat schema: %d replicas in data centre %q", n, dc)
		}
		replicas = append(replicas, fmt.Sprintf("'%s': %d", dc, n))
	}
	slices.Sort(replicas)
	keyspace := fmt.Sprintf("CREATE KEYSPACE IF NOT EXISTS %s WITH replication = {'class': 'NetworkTopologyStrategy', %s}",
		opt.Keyspace, strings.Join(replicas, ", "))
	if schema.Tablets != nil {
		keyspace += fmt.Sprintf(" AND tablets = {'enabled': %t}", *schema.Tablets)
	}
	c := cluster(opt)
	c.Keyspace = ""
	session, err := c.CreateSession()
	if err != nil {
		return fmt.Errorf("create the seat schema: connect: %w", err)
	}
	defer session.Close()
	for _, statement := range append([]string{keyspace}, tables(opt.Keyspace)...) {
		if err := session.Query(statement).WithContext(ctx).Exec(); err != nil {
			return fmt.Errorf("create the seat schema: %w in %q", err, statement)
		}
		if err := session.AwaitSchemaAgreement(ctx); err != nil {
			return fmt.Errorf("create the seat schema: %w", err)
		}
	}
	return nil
}

func tables(keyspace string) []string {
	return []string{
		// hold_id is the only cell that ever has a TTL and the only one that may be null: the lease. order_id and kill are
		// overwritten with zero instead, so a deleted value that comes back from the dead is at worst a lease, which dies by
		// its own TTL. gc_grace_seconds only has to exceed the longest lease.
		`CREATE TABLE IF NOT EXISTS ` + keyspace + `.seat (
			performance_id uuid, block smallint, seat smallint,
			ver bigint STATIC, last uuid STATIC,
			epoch int STATIC, state tinyint STATIC,
			chart blob STATIC,
			channel smallint, kill smallint,
			order_id uuid,
			hold_id uuid,
			PRIMARY KEY ((performance_id, block), seat)
		) WITH gc_grace_seconds = 10800 AND compaction = {'class': 'LeveledCompactionStrategy'}`,
		`CREATE TABLE IF NOT EXISTS ` + keyspace + `.performance (
			id uuid PRIMARY KEY, chart blob, block_seats int, blocks int, channels map<text, smallint>,
			imported_at timestamp, complete boolean, sale tinyint, settled boolean, version bigint)`,
		`CREATE TABLE IF NOT EXISTS ` + keyspace + `.chart (hash blob PRIMARY KEY, parts int, bytes int)`,
		`CREATE TABLE IF NOT EXISTS ` + keyspace + `.chart_part (hash blob, part int, data blob, PRIMARY KEY ((hash, part)))`,
	}
}
