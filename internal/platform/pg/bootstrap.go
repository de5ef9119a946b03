package pg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// Module is what a module needs in a database.
type Module struct {
	Schema     string // also names its role, novacron_<schema>
	Migrations fs.FS  // goose SQL files in its root
}

// migrationLock is the key of the advisory lock that Bootstrap holds: any number that nobody else in the database uses.
const migrationLock int64 = 0x6e6f7661_63726f6e // "novacron"

// roleAttempts is how often the creation of a role is tried: roles belong to the whole cluster, while advisory locks belong to one
// database, so that processes that set up other databases of the cluster can get in the way.
const roleAttempts = 10

// Bootstrap creates the module's role and schema where they are missing and brings its tables up to date. Any number of processes
// may do so at the same time.
func Bootstrap(ctx context.Context, adminURL string, m Module, log *slog.Logger) (err error) {
	if !schemaName.MatchString(m.Schema) {
		return fmt.Errorf("bootstrap: %q cannot be the name of a schema", m.Schema)
	}
	cc, err := pgx.ParseConfig(adminURL)
	if err != nil {
		return fmt.Errorf("database url: %w", err)
	}
	if cc.ConnectTimeout == 0 {
		cc.ConnectTimeout = connectTimeout
	}
	cc.RuntimeParams["application_name"] = "novacron/bootstrap/" + m.Schema
	cc.RuntimeParams["statement_timeout"] = "0" // waiting for the lock may take as long as another process's migration
	conn, err := pgx.ConnectConfig(ctx, cc)
	if err != nil {
		return fmt.Errorf("bootstrap schema %s: %w", m.Schema, Map(err))
	}
	// Closing the connection gives the lock back, whatever happened in between.
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", migrationLock); err != nil {
		return fmt.Errorf("wait for migration lock: %w", Map(err))
	}
	if err := ensureRole(ctx, conn, m.Schema); err != nil {
		return fmt.Errorf("role of schema %s: %w", m.Schema, Map(err))
	}
	if err := ensureSchema(ctx, conn, m.Schema); err != nil {
		return fmt.Errorf("schema %s: %w", m.Schema, Map(err))
	}
	return migrate(ctx, adminURL, m, log)
}

// ensureRole creates the role and lets our login act as it.
func ensureRole(ctx context.Context, conn *pgx.Conn, schema string) error {
	var err error
	for range roleAttempts {
		err = createRole(ctx, conn, schema)
		// XX000 "tuple concurrently updated" is what two simultaneous GRANTs of one role can end with.
		if !hasCode(err, codeDuplicateObject, codeUnique, codeInternal) {
			break
		}
	}
	if hasCode(err, codeInsufficientPrivs) {
		return missingPrivileges(ctx, conn, schema, err)
	}
	return err
}

func createRole(ctx context.Context, conn *pgx.Conn, schema string) error {
	role := Role(schema)
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role).Scan(&exists); err != nil {
		return err
	}
	if !exists {
		if _, err := conn.Exec(ctx, "CREATE ROLE "+role+" NOLOGIN"); err != nil {
			return err
		}
	}
	// PostgreSQL 16 split membership: what counts is whether we may SET ROLE.
	var member bool
	err := conn.QueryRow(ctx, `SELECT pg_has_role(current_user, $1,
		CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)`, role).Scan(&member)
	if err != nil || member {
		return err
	}
	_, err = conn.Exec(ctx, "GRANT "+role+" TO CURRENT_USER")
	return err
}

// ensureSchema creates the schema, owned by the role and closed to everybody else.
func ensureSchema(ctx context.Context, conn *pgx.Conn, schema string) error {
	role := Role(schema)
	var owner string
	err := conn.QueryRow(ctx, "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = $1", schema).Scan(&owner)
	switch {
	case NotFound(err):
		_, err = conn.Exec(ctx, "CREATE SCHEMA "+schema+" AUTHORIZATION "+role)
	case err == nil && owner != role:
		_, err = conn.Exec(ctx, "ALTER SCHEMA "+schema+" OWNER TO "+role)
	}
	if err == nil {
		_, err = conn.Exec(ctx, "REVOKE ALL ON SCHEMA "+schema+" FROM PUBLIC")
	}
	if hasCode(err, codeInsufficientPrivs) {
		return missingPrivileges(ctx, conn, schema, err)
	}
	return err
}

// missingPrivileges says what an administrator has to run.
func missingPrivileges(ctx context.Context, conn *pgx.Conn, schema string, cause error) error {
	var login, db string
	if err := conn.QueryRow(ctx, "SELECT quote_ident(current_user), quote_ident(current_database())").Scan(&login, &db); err != nil {
		return errors.Join(err, cause)
	}
	role := Role(schema)
	return ErrPrivileges.
		WithMessage("database login %s may not create role %s or schema %s in database %s", login, role, schema, db).
		WithAction(fmt.Sprintf("As a superuser in database %[4]s, run: CREATE ROLE %[1]s NOLOGIN; GRANT %[1]s TO %[2]s; CREATE SCHEMA %[3]s AUTHORIZATION %[1]s; "+
			"(leave out what exists)", role, login, schema, db)).
		Wrap(cause)
}

// migrate runs the module's migrations as its role, in its schema.
func migrate(ctx context.Context, adminURL string, m Module, log *slog.Logger) (err error) {
	cc, err := pgx.ParseConfig(adminURL)
	if err != nil {
		return fmt.Errorf("database url: %w", err)
	}
	actAs(cc, m.Schema, "novacron/migrate/"+m.Schema, -1)
	db := stdlib.OpenDB(*cc)
	defer func() { err = errors.Join(err, db.Close()) }()
	store, err := database.NewStore(database.DialectPostgres, m.Schema+".goose_version")
	if err != nil {
		return fmt.Errorf("migrations of %s: %w", m.Schema, err)
	}
	// The dialect stays empty: goose takes it from the store.
	provider, err := goose.NewProvider("", db, m.Migrations,
		goose.WithStore(store), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("migrations of %s: %w", m.Schema, err)
	}
	results, err := provider.Up(ctx)
	for _, r := range results {
		log.Info("migration applied", "schema", m.Schema, "file", r.Source.Path, "duration", r.Duration)
	}
	if err == nil {
		return nil
	}
	if err = Map(err); errors.Is(err, ErrUnavailable) || errors.Is(err, context.Canceled) {
		return fmt.Errorf("migrate %s: %w", m.Schema, err)
	}
	return ErrMigration.WithMessage("the tables of %s could not be brought up to date", m.Schema).Wrap(err)
}
