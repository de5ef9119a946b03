package pg

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Querier runs queries: a pool, a connection or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// TenantRows counts the rows of a tenant in every table of the schema that the connection acts in: those with a uuid column tenant_id. A table
// that is added later is counted without anybody thinking of it. conditions narrows what counts of a table, by its name; "false" leaves it out.
func TenantRows(ctx context.Context, db Querier, tenantID uuid.UUID, conditions map[string]string) (map[string]int64, error) {
	rows, err := db.Query(ctx, `SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
			AND a.attname = 'tenant_id' AND a.atttypid = 'uuid'::regtype AND NOT a.attisdropped
		ORDER BY c.relname`)
	if err != nil {
		return nil, fmt.Errorf("list tables with tenants: %w", Map(err))
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list tables with tenants: %w", Map(err))
	}
	counts := make(map[string]int64, len(tables))
	for _, table := range tables {
		condition, narrowed := conditions[table]
		if condition == "false" {
			continue
		}
		sql := "SELECT count(*) FROM " + pgx.Identifier{table}.Sanitize() + " WHERE tenant_id = $1"
		if narrowed {
			sql += " AND (" + condition + ")"
		}
		var n int64
		if err := db.QueryRow(ctx, sql, tenantID).Scan(&n); err != nil {
			return nil, fmt.Errorf("count %s of a tenant: %w", table, Map(err))
		}
		counts[strings.TrimPrefix(table, "vm_")] = n
	}
	return counts, nil
}
