package pgtest

import (
	"context"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/novacron/novacron/internal/platform/pg"
)

// Schema is one module's part of a test database.
type Schema struct {
	Name       string
	Migrations fs.FS // goose SQL files in its root
}

// DB is a database that belongs to one test and goes with it.
type DB struct {
	URL string // as superuser

	t     testing.TB
	mu    sync.Mutex
	pools map[string]*pgxpool.Pool
}

// New makes a fresh database with the schemas, in the test binary's shared cluster.
func New(t testing.TB, schemas ...Schema) *DB {
	t.Helper()
	c, err := shared.get()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return c.New(t, schemas...)
}

// New makes a fresh database with the schemas in this cluster.
func (c *Cluster) New(t testing.TB, schemas ...Schema) *DB {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	name, err := c.clone(ctx, schemas)
	if err != nil {
		t.Fatalf("pgtest: create database: %v", err)
	}
	u, err := withDatabase(c.Server.URL(), name)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if c.private { // it takes its databases along, and the test may have stopped it
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.admin(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return &DB{URL: u, t: t, pools: map[string]*pgxpool.Pool{}}
}

// Pool gives a pool that acts as the schema's role, one for each schema; it is closed with the test.
func (d *DB) Pool(schema string) *pgxpool.Pool {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if p, ok := d.pools[schema]; ok {
		return p
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p, err := pg.Open(ctx, pg.Config{URL: d.URL, Schema: schema, MaxConns: 8, ApplicationName: "pgtest/" + schema})
	if err != nil {
		d.t.Fatalf("pgtest: %v", err)
	}
	d.pools[schema] = p
	d.t.Cleanup(p.Close)
	return p
}

// sharedCluster is the one cluster of the test binary.
type sharedCluster struct {
	once    sync.Once
	cluster *Cluster
	err     error
}

// shared is the exception to the rule that packages keep no state: a test binary has no place to hand it through.
var shared sharedCluster

func (s *sharedCluster) get() (*Cluster, error) {
	s.once.Do(func() {
		sweep(os.TempDir())
		s.cluster, s.err = startCluster()
	})
	return s.cluster, s.err
}

// Runner runs the tests and then stops the shared cluster. It has the method that goleak.VerifyTestMain asks for.
type Runner struct{ m *testing.M }

// Wrap makes a Runner, for a TestMain that has more to do.
func Wrap(m *testing.M) Runner { return Runner{m: m} }

// Run runs the tests and gives the exit code.
func (r Runner) Run() int {
	code := r.m.Run()
	if shared.cluster != nil {
		if err := shared.cluster.close(); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest:", err)
			return max(code, 1)
		}
	}
	return code
}

// Main is a whole TestMain. Without it the cluster stops with the test binary all the same, but its folder stays until a later
// run of tests removes it.
func Main(m *testing.M) { os.Exit(Wrap(m).Run()) }

func withDatabase(dsn, name string) (string, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return "", fmt.Errorf("url of cluster: %w", err)
	}
	u.Path = "/" + name
	return u.String(), nil
}
