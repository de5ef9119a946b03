package operation

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/platform/pg/pgtest"
)

// The child process works on operations until it is killed: by itself at the point that killPoint names, or by its parent.
const (
	childURL   = "NOVACRON_TEST_DATABASE_URL"
	killPoint  = "NOVACRON_TEST_KILL"   // "<step>/<when>"
	killMarker = "NOVACRON_TEST_KILLED" // file that exists once the kill has been done, so that the next child lives
	childOwner = "NOVACRON_TEST_OWNER"  // owner of leases that do not run out within the test
)

// runChild is the life of a child process; it answers false in the parent.
func runChild() bool {
	url := os.Getenv(childURL)
	if url == "" {
		return false
	}
	if err := child(url); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

func child(url string) error {
	ctx := context.Background()
	pool, err := pg.Open(ctx, pg.Config{URL: url, Schema: testSchema})
	if err != nil {
		return err
	}
	cfg := quick(pool)
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	marker := os.Getenv(killMarker)
	if cfg.Owner = os.Getenv(childOwner); cfg.Owner != "" {
		cfg.Lease = time.Hour
	}
	die := func(step, when string) error {
		if _, err := os.Stat(marker); err == nil || step+"/"+when != os.Getenv(killPoint) {
			return nil
		}
		if err := os.WriteFile(marker, nil, 0o600); err != nil {
			return err
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // death comes
	}
	cfg.Fault = func(_, step, when string) error {
		if step == "fails" && when == "after do" {
			return errBroken
		}
		return die(step, when)
	}
	e, err := NewEngine(cfg)
	if err != nil {
		return err
	}
	for _, saga := range []Saga{marking(pool, "succeeds", "a", "b", "c"), marking(pool, "undone", "a", "b", "fails")} {
		mark := saga.OnEnd
		saga.OnEnd = func(ctx context.Context, tx pgx.Tx, op Operation) error {
			if err := mark(ctx, tx, op); err != nil {
				return err
			}
			return die("", "at the end")
		}
		e.Register(saga)
	}
	if err := e.Start(ctx); err != nil {
		return err
	}
	select {} // until the parent kills it
}

func spawn(t *testing.T, url, point, marker, owner string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childURL+"="+url, killPoint+"="+point, killMarker+"="+marker, childOwner+"="+owner)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// A process that is killed at any point of any step, forward or back, leaves an operation that the next process finishes.
func TestKillAtEveryPoint(t *testing.T) {
	points := map[string][]string{}
	for _, kind := range []string{"succeeds", "undone"} {
		steps := []string{"a", "b", "c"}
		whens := []string{"before do", "after do"}
		if kind == "undone" {
			steps, whens = []string{"a", "b", "fails"}, []string{"before undo", "after undo"}
		}
		for _, s := range steps {
			for _, w := range whens {
				points[kind] = append(points[kind], s+"/"+w)
			}
		}
		points[kind] = append(points[kind], "/at the end")
	}
	for kind, list := range points {
		for _, point := range list {
			t.Run(kind+" "+point, func(t *testing.T) {
				t.Parallel()
				killAt(t, kind, point, "")
			})
		}
	}
}

// A process that follows one of the same owner does not wait for the leases of its predecessor.
func TestSameOwnerTakesOverAtOnce(t *testing.T) { killAt(t, "succeeds", "b/after do", "a host") }

func killAt(t *testing.T, kind, point, owner string) {
	db := pgtest.New(t, pgtest.Schema{Name: testSchema, Migrations: migrations()})
	pool := db.Pool(testSchema)
	if err := Migrate(t.Context(), pool, testSchema); err != nil {
		t.Fatal(err)
	}
	watcher, err := NewEngine(quick(pool)) // never started: it only writes and watches
	if err != nil {
		t.Fatal(err)
	}
	watcher.Register(marking(pool, "succeeds", "a", "b", "c"))
	watcher.Register(marking(pool, "undone", "a", "b", "fails"))
	op := create(t, watcher, New{Kind: kind})
	marker := filepath.Join(t.TempDir(), "killed")
	first := spawn(t, db.URL, point, marker, owner)
	if err := first.Wait(); err == nil || first.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the first process was not killed at the point: %v", first.ProcessState)
	}
	second := spawn(t, db.URL, point, marker, owner)
	defer func() { _ = second.Process.Kill(); _ = second.Wait() }()
	killed := time.Now()
	op = await(t, watcher, op.ID)
	if took := time.Since(killed); took > 30*time.Second {
		t.Errorf("took %v to go on", took)
	}
	want, marks := StatusSucceeded, 3
	if kind == "undone" {
		want, marks = StatusFailed, 0
	}
	if op.Status != want {
		t.Errorf("ended as %s, want %s: %v", op.Status, want, op.Error)
	}
	if n := count(t, pool, `SELECT count(*) FROM marks WHERE op = $1`, op.ID); n != marks {
		t.Errorf("%d marks, want %d", n, marks)
	}
	if n := count(t, pool, `SELECT count(*) FROM ends WHERE op = $1 AND status = $2`, op.ID, want); n != 1 {
		t.Errorf("%d ends", n)
	}
	if n := count(t, pool, `SELECT count(*) FROM operations WHERE lease_until IS NOT NULL`); n != 0 {
		t.Errorf("%d leases are held", n)
	}
}

// The database goes away under the engine and comes back: operations wait, and finish.
func TestDatabaseRestart(t *testing.T) {
	cluster := pgtest.NewCluster(t)
	pool := cluster.New(t, pgtest.Schema{Name: testSchema, Migrations: migrations()}).Pool(testSchema)
	if err := Migrate(t.Context(), pool, testSchema); err != nil {
		t.Fatal(err)
	}
	begun, goOn := make(chan struct{}, 8), make(chan struct{})
	saga := marking(pool, "toy", "a")
	saga.Steps = append(saga.Steps, Step{Name: "wait", Do: func(ctx context.Context, _ *Run) error {
		begun <- struct{}{}
		select {
		case <-goOn:
		case <-ctx.Done():
		}
		return ctx.Err()
	}})
	e := start(t, quick(pool), saga)
	id := create(t, e, New{Kind: "toy"}).ID
	<-begun
	cluster.Kill(t)
	close(goOn)
	cluster.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		op, err := e.Wait(ctx, id)
		if err == nil && op.Status == StatusSucceeded {
			return
		}
		if err == nil || ctx.Err() != nil {
			t.Fatalf("ended as %s: %v", op.Status, err)
		}
	}
}
