package pg

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Config describes one module's pool.
type Config struct {
	URL             string // of the database, with a login that may act as the module's role; Bootstrap sees to that
	Schema          string // of the module; also names its role, novacron_<schema>
	MaxConns        int32  // 0 means 10
	ApplicationName string // seen in pg_stat_activity; empty means novacron/<schema>
	// StatementTimeout bounds every statement on the server. 0 means 30 seconds, negative none.
	StatementTimeout time.Duration
}

const (
	defaultMaxConns         = 10
	defaultStatementTimeout = 30 * time.Second
	connectTimeout          = 5 * time.Second
)

// schemaName is what may become a part of an SQL statement unquoted.
var schemaName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,40}$`)

// Role names the role that owns a module's schema.
func Role(schema string) string { return "novacron_" + schema }

// Open makes a pool whose connections act as the module's role, inside its schema, and checks that one can be made. The caller
// closes it.
func Open(ctx context.Context, cfg Config) (*pgxpool.Pool, error) {
	if !schemaName.MatchString(cfg.Schema) {
		return nil, fmt.Errorf("open pool: %q cannot be the name of a schema", cfg.Schema)
	}
	pc, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("database url: %w", err)
	}
	if pc.MaxConns = cfg.MaxConns; pc.MaxConns <= 0 {
		pc.MaxConns = defaultMaxConns
	}
	pc.MaxConnIdleTime = 10 * time.Minute
	pc.MaxConnLifetime = time.Hour
	pc.MaxConnLifetimeJitter = 10 * time.Minute
	pc.HealthCheckPeriod = 30 * time.Second
	actAs(pc.ConnConfig, cfg.Schema, cfg.ApplicationName, cfg.StatementTimeout)
	pc.ConnConfig.Tracer = tracer{}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("open pool of schema %s: %w", cfg.Schema, err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("open pool of schema %s: %w", cfg.Schema, Map(err))
	}
	return pool, nil
}

// actAs sets up a connection for a module. They are start-up parameters, so that RESET and DISCARD ALL come back to them.
func actAs(cc *pgx.ConnConfig, schema, app string, timeout time.Duration) {
	if app == "" {
		app = "novacron/" + schema
	}
	switch {
	case timeout == 0:
		timeout = defaultStatementTimeout
	case timeout < 0:
		timeout = 0 // PostgreSQL's word for none
	}
	if cc.ConnectTimeout == 0 {
		cc.ConnectTimeout = connectTimeout
	}
	p := cc.RuntimeParams
	p["role"] = Role(schema)
	p["search_path"] = schema
	p["application_name"] = app
	p["timezone"] = "UTC"
	p["statement_timeout"] = strconv.FormatInt(timeout.Milliseconds(), 10)
}
