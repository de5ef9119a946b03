package pg_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/platform/pg/pgtest"
)

var quiet = slog.New(slog.DiscardHandler)

// migrations makes goose files from the SQL of their up parts.
func migrations(up ...string) fs.FS {
	m := fstest.MapFS{}
	for i, sql := range up {
		m[string(rune('1'+i))+"_step.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + sql + "\n")}
	}
	return m
}

// exec runs a statement on a connection of its own.
func exec(t *testing.T, dsn, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestBootstrapKeepsModulesApart(t *testing.T) {
	d := pgtest.New(t,
		pgtest.Schema{Name: "alpha", Migrations: migrations("CREATE TABLE thing (id int);")},
		pgtest.Schema{Name: "beta", Migrations: migrations("CREATE TABLE thing (id int);")},
	)
	alpha := d.Pool("alpha")
	var user, path string
	if err := alpha.QueryRow(t.Context(), "SELECT current_user, current_schemas(false)::text").Scan(&user, &path); err != nil {
		t.Fatal(err)
	}
	if user != "novacron_alpha" || path != "{alpha}" {
		t.Fatalf("acts as %s with search path %s", user, path)
	}
	if _, err := alpha.Exec(t.Context(), "INSERT INTO thing VALUES (1)"); err != nil {
		t.Fatalf("own table: %v", err)
	}
	for _, sql := range []string{"SELECT * FROM beta.thing", "SELECT * FROM beta.goose_version", "CREATE TABLE beta.mine (id int)", "CREATE SCHEMA mine"} {
		if _, err := alpha.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "42501") {
			t.Errorf("%s: got %v, want a refusal", sql, err)
		}
	}
	var owner string
	if err := alpha.QueryRow(t.Context(), "SELECT tableowner FROM pg_tables WHERE schemaname = 'alpha' AND tablename = 'goose_version'").Scan(&owner); err != nil {
		t.Fatal(err)
	}
	if owner != "novacron_alpha" {
		t.Errorf("version table belongs to %s", owner)
	}
}

func TestBootstrapIsIdempotentAndContinues(t *testing.T) {
	d := pgtest.New(t)
	m := pg.Module{Schema: "steps", Migrations: migrations("CREATE TABLE one (id int);")}
	for range 2 {
		if err := pg.Bootstrap(t.Context(), d.URL, m, quiet); err != nil {
			t.Fatal(err)
		}
	}
	m.Migrations = migrations("CREATE TABLE one (id int);", "CREATE TABLE two (id int);")
	if err := pg.Bootstrap(t.Context(), d.URL, m, quiet); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Pool("steps").Exec(t.Context(), "SELECT FROM one, two"); err != nil {
		t.Fatal(err)
	}
	m.Migrations = migrations("CREATE TABLE one (id int);", "CREATE TABLE two (id int);", "CREATE TABLE three (id int); SELECT nonsense;")
	if err := pg.Bootstrap(t.Context(), d.URL, m, quiet); !errors.Is(err, pg.ErrMigration) {
		t.Fatalf("broken migration: got %v", err)
	}
	if _, err := d.Pool("steps").Exec(t.Context(), "SELECT FROM three"); err == nil {
		t.Error("the broken migration left a table behind")
	}
}

// Several processes start at the same time, on two databases of one cluster: roles are shared, advisory locks are not.
func TestBootstrapConcurrently(t *testing.T) {
	urls := []string{pgtest.New(t).URL, pgtest.New(t).URL}
	m := pg.Module{Schema: "crowd", Migrations: migrations("CREATE TABLE one (id int);", "INSERT INTO one VALUES (1);")}
	failed := make(chan error, 12)
	var wg sync.WaitGroup
	for i := range cap(failed) {
		wg.Go(func() { failed <- pg.Bootstrap(t.Context(), urls[i%2], m, quiet) })
	}
	wg.Wait()
	close(failed)
	for err := range failed {
		if err != nil {
			t.Error(err)
		}
	}
	for _, u := range urls {
		pool, err := pg.Open(t.Context(), pg.Config{URL: u, Schema: "crowd"})
		if err != nil {
			t.Fatal(err)
		}
		var n int
		if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM one").Scan(&n); err != nil || n != 1 {
			t.Errorf("rows: %d, %v; the migration must have run once", n, err)
		}
		pool.Close()
	}
}

// as gives the URL with another login.
func as(t *testing.T, dsn, login string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(login)
	return u.String()
}

func TestBootstrapWithPlainLogins(t *testing.T) {
	d := pgtest.NewCluster(t).New(t) // logins belong to the whole cluster
	dbname := d.URL[strings.LastIndex(d.URL, "/")+1 : strings.Index(d.URL, "?")]
	exec(t, d.URL, `CREATE ROLE "Weak one" LOGIN; CREATE ROLE creator LOGIN CREATEROLE; GRANT CREATE ON DATABASE `+dbname+` TO creator`)

	m := pg.Module{Schema: "guest", Migrations: migrations("CREATE TABLE one (id int);")}
	err := pg.Bootstrap(t.Context(), as(t, d.URL, "Weak one"), m, quiet)
	if !errors.Is(err, pg.ErrPrivileges) {
		t.Fatalf("login without privileges: got %v", err)
	}
	// What the error says to run helps.
	action := actionOf(t, err)
	statements, _, _ := strings.Cut(action[strings.Index(action, "CREATE ROLE"):], "(")
	exec(t, d.URL, statements)
	if err := pg.Bootstrap(t.Context(), as(t, d.URL, "Weak one"), m, quiet); err != nil {
		t.Fatalf("after running %s: %v", statements, err)
	}

	m.Schema = "made"
	if err := pg.Bootstrap(t.Context(), as(t, d.URL, "creator"), m, quiet); err != nil {
		t.Fatalf("login with CREATEROLE: %v", err)
	}
	pool, err := pg.Open(t.Context(), pg.Config{URL: as(t, d.URL, "creator"), Schema: "made"})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.Exec(t.Context(), "INSERT INTO one VALUES (1)"); err != nil {
		t.Fatal(err)
	}
}

func TestBootstrapRefusesOddNames(t *testing.T) {
	for _, name := range []string{"", "Upper", "a;b", `a"b`, "1st", strings.Repeat("a", 60)} {
		if err := pg.Bootstrap(t.Context(), "postgres://localhost/none", pg.Module{Schema: name}, quiet); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
}
