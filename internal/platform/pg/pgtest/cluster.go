package pgtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/platform/pg/pgserver"
)

// patience bounds every step; it is generous because test machines are slow.
const patience = 2 * time.Minute

// Cluster is a running private PostgreSQL for tests.
type Cluster struct {
	Server *pgserver.Server

	dir     string
	lock    *os.File // tells sweep of other test binaries that dir is in use
	private bool     // goes with the one test that it belongs to

	mu        sync.Mutex
	templates map[string]string // hash of schemas and migrations -> name of the template database
	databases int
}

// NewCluster starts a cluster that belongs to one test, which may stop, kill and start it as it likes.
func NewCluster(t testing.TB) *Cluster {
	t.Helper()
	c, err := startCluster()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	c.private = true
	t.Cleanup(func() {
		if err := c.close(); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return c
}

func startCluster() (*Cluster, error) {
	dir, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		return nil, err
	}
	// The user that PostgreSQL runs as has to pass.
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, lock: lock, templates: map[string]string{}}
	c.Server = pgserver.New(pgserver.Config{
		DataDir: filepath.Join(dir, "postgres"), Log: slog.New(slog.DiscardHandler), FastUnsafe: true,
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Server.Start(ctx); err != nil {
		return nil, fmt.Errorf("start cluster in %s: %w", dir, err)
	}
	return c, nil
}

func (c *Cluster) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Server.Stop(ctx); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(c.dir), c.lock.Close())
}

// Stop stops the server in good order; it stays down until Start.
func (c *Cluster) Stop(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Server.Stop(ctx); err != nil {
		t.Fatalf("pgtest: stop: %v", err)
	}
}

// Start starts it again and returns when it answers.
func (c *Cluster) Start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Server.Start(ctx); err != nil {
		t.Fatalf("pgtest: start: %v", err)
	}
}

// Kill kills the server with SIGKILL. Its supervisor brings it back by itself, within about a second.
func (c *Cluster) Kill(t testing.TB) {
	t.Helper()
	pid := c.Server.PID()
	if pid == 0 {
		t.Fatal("pgtest: kill: the server is not running")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("pgtest: kill: %v", err)
	}
}

// clone makes a fresh database with the schemas and gives its name.
func (c *Cluster) clone(ctx context.Context, schemas []Schema) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	template, err := c.template(ctx, schemas)
	if err != nil {
		return "", err
	}
	c.databases++
	name := fmt.Sprintf("test_%d", c.databases)
	return name, c.admin(ctx, "CREATE DATABASE "+name+" TEMPLATE "+template)
}

// template gives the database to clone, and makes it where no test has asked for these schemas yet.
func (c *Cluster) template(ctx context.Context, schemas []Schema) (string, error) {
	if len(schemas) == 0 {
		return "template1", nil
	}
	key, err := fingerprint(schemas)
	if err != nil {
		return "", err
	}
	if name, ok := c.templates[key]; ok {
		return name, nil
	}
	name := "template_" + key
	if err := c.admin(ctx, "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	url, err := withDatabase(c.Server.URL(), name)
	if err != nil {
		return "", err
	}
	for _, s := range schemas {
		m := pg.Module{Schema: s.Name, Migrations: s.Migrations}
		if err := pg.Bootstrap(ctx, url, m, slog.New(slog.DiscardHandler)); err != nil {
			// Another test must not find half a template.
			if dropErr := c.admin(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); dropErr != nil {
				return "", fmt.Errorf("%w; and then: %w", err, dropErr)
			}
			return "", err
		}
	}
	c.templates[key] = name
	return name, nil
}

// admin runs one statement as superuser in the cluster's main database.
func (c *Cluster) admin(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, c.Server.URL())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // there is nothing left to lose on it
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// fingerprint tells sets of schemas apart by name and content.
func fingerprint(schemas []Schema) (string, error) {
	h := sha256.New()
	for _, s := range schemas {
		fmt.Fprintf(h, "schema %q\n", s.Name)
		err := fs.WalkDir(s.Migrations, ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := fs.ReadFile(s.Migrations, path)
			if err != nil {
				return err
			}
			fmt.Fprintf(h, "file %q %d\n%s", path, len(b), b)
			return nil
		})
		if err != nil {
			return "", fmt.Errorf("read migrations of %s: %w", s.Name, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:10]), nil
}
