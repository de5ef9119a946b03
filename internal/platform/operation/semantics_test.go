package operation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/platform/pg/pgtest"
)

// eventually polls until ok, a minute at most.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick, late := time.NewTicker(20*time.Millisecond), time.After(time.Minute)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

func nothing(context.Context, *Run) error { return nil }

// A cancellation that was accepted is kept, even by a step that pays no heed and succeeds, and even where only the step of no return
// is left.
func TestCancelIsKept(t *testing.T) {
	pool := newPool(t)
	begun, goOn := make(chan struct{}), make(chan struct{})
	deaf := Step{Name: "deaf", Do: func(context.Context, *Run) error {
		begun <- struct{}{}
		<-goOn
		return nil
	}}
	var passed atomic.Bool
	e := start(t, quick(pool),
		Saga{Kind: "last", Steps: []Step{deaf}},
		Saga{Kind: "before the point of no return", PointOfNoReturn: "no return", Steps: []Step{deaf, {Name: "no return",
			Do: func(context.Context, *Run) error { passed.Store(true); return nil }}}})
	for kind := range e.sagas {
		t.Run(kind, func(t *testing.T) {
			id := create(t, e, New{Kind: kind}).ID
			<-begun
			op, err := e.Cancel(t.Context(), id)
			if err != nil || !op.CancelRequested {
				t.Fatalf("cancel: %+v, %v", op, err)
			}
			goOn <- struct{}{}
			if op := await(t, e, id); op.Status != StatusCanceled || !errors.Is(op.Error, ErrCanceled) {
				t.Errorf("ended as %s: %v", op.Status, op.Error)
			}
		})
	}
	if passed.Load() {
		t.Error("the step of no return ran after the cancellation")
	}
}

func TestCancelWhileWaiting(t *testing.T) {
	pool := newPool(t)
	e := start(t, quick(pool), Saga{Kind: "toy", Deadline: time.Hour, Steps: []Step{{Name: "a", Do: func(context.Context, *Run) error { return errAway }}}})
	id := create(t, e, New{Kind: "toy"}).ID
	eventually(t, "a long pause", func() bool {
		return count(t, pool, `SELECT count(*) FROM operations WHERE lease_until IS NULL AND next_attempt_at > now() + interval '4 seconds'`) == 1
	})
	if _, err := e.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if op := await(t, e, id); op.Status != StatusCanceled {
		t.Errorf("ended as %s: %v", op.Status, op.Error)
	}
}

func TestUnknownKindIsLeftAlone(t *testing.T) {
	pool := newPool(t)
	newer, err := NewEngine(quick(pool)) // never started
	if err != nil {
		t.Fatal(err)
	}
	newer.Register(Saga{Kind: "new", Steps: []Step{{Name: "a", Do: nothing}}})
	id := create(t, newer, New{Kind: "new"}).ID
	older := start(t, quick(pool), Saga{Kind: "old", Steps: []Step{{Name: "a", Do: nothing}}})
	await(t, older, create(t, older, New{Kind: "old"}).ID) // the job of the other came before
	if op, err := older.Get(t.Context(), id); err != nil || op.Status != StatusPending {
		t.Fatalf("it is %s, %v", op.Status, err)
	}
	start(t, quick(pool), Saga{Kind: "new", Steps: []Step{{Name: "a", Do: nothing}}})
	if op := await(t, older, id); op.Status != StatusSucceeded {
		t.Errorf("ended as %s", op.Status)
	}
}

func TestDeadlineInterruptsAStep(t *testing.T) {
	pool := newPool(t)
	e := start(t, quick(pool), Saga{Kind: "toy", Deadline: time.Second, Steps: []Step{stuck(make(chan struct{}, 1))}})
	op := await(t, e, create(t, e, New{Kind: "toy"}).ID)
	if op.Status != StatusFailed || !errors.Is(op.Error, ErrDeadline) || op.Error.Step != "stuck" {
		t.Errorf("ended as %s: %v", op.Status, op.Error)
	}
}

// A job that was fetched by a process that died before it took the lease is of no account.
func TestJobOfADeadProcess(t *testing.T) {
	pool := newPool(t)
	e, err := NewEngine(quick(pool))
	if err != nil {
		t.Fatal(err)
	}
	saga := Saga{Kind: "toy", Steps: []Step{{Name: "a", Do: nothing}}}
	e.Register(saga)
	id := create(t, e, New{Kind: "toy"}).ID
	if _, err := pool.Exec(t.Context(), `UPDATE river_job SET state = 'running', attempt = 1, attempted_at = now()`); err != nil {
		t.Fatal(err)
	}
	if op := await(t, start(t, quick(pool), saga), id); op.Status != StatusSucceeded {
		t.Errorf("ended as %s", op.Status)
	}
}

func TestBacklogDoesNotPileUpJobs(t *testing.T) {
	pool := newPool(t)
	begun, goOn := make(chan struct{}, 100), make(chan struct{})
	cfg := quick(pool)
	cfg.Workers, cfg.Sweep = 1, 50*time.Millisecond
	e := start(t, cfg, Saga{Kind: "toy", Steps: []Step{{Name: "a", Do: func(context.Context, *Run) error {
		begun <- struct{}{}
		<-goOn
		return nil
	}}}})
	ids := make([]uuid.UUID, 20)
	for i := range ids {
		ids[i] = create(t, e, New{Kind: "toy"}).ID
	}
	<-begun
	sweeps := time.After(time.Second)
	<-sweeps // about twenty
	if n := count(t, pool, `SELECT count(*) FROM river_job`); n > len(ids) {
		t.Errorf("%d jobs for %d operations", n, len(ids))
	}
	close(goOn)
	for _, id := range ids {
		await(t, e, id)
	}
}

// The database is away for longer than a lease. What was done in the meantime is neither lost nor undone.
func TestDatabaseAwayForLongerThanALease(t *testing.T) {
	cluster := pgtest.NewCluster(t)
	pool := cluster.New(t, pgtest.Schema{Name: testSchema, Migrations: migrations()}).Pool(testSchema)
	if err := Migrate(t.Context(), pool, testSchema); err != nil {
		t.Fatal(err)
	}
	begun, interrupted := make(chan struct{}, 1), make(chan struct{})
	var undone atomic.Int32
	undo := func(context.Context, *Run) error { undone.Add(1); return nil }
	e := start(t, quick(pool),
		Saga{Kind: "ends meanwhile", Steps: []Step{{Name: "a", Do: func(context.Context, *Run) error { <-interrupted; return nil }, Undo: undo}, {Name: "b", Do: nothing}}},
		Saga{Kind: "is interrupted", Steps: []Step{{Name: "a", Undo: undo, Do: func(ctx context.Context, r *Run) error {
			if r.Operation().Steps[0].Attempts > 1 {
				return nil
			}
			begun <- struct{}{}
			<-ctx.Done() // before another process can have the lease
			close(interrupted)
			return ctx.Err()
		}}}})
	first, second := create(t, e, New{Kind: "ends meanwhile"}), create(t, e, New{Kind: "is interrupted"})
	<-begun
	cluster.Stop(t)
	select {
	case <-interrupted:
	case <-time.After(time.Minute):
		t.Fatal("the step was not interrupted")
	}
	cluster.Start(t)
	for _, id := range []uuid.UUID{first.ID, second.ID} {
		if op := await(t, e, id); op.Status != StatusSucceeded {
			t.Errorf("ended as %s: %v", op.Status, op.Error)
		}
	}
	if undone.Load() != 0 {
		t.Error("a step was undone because the database was away")
	}
}

// Somebody keeps the row of one operation locked: the leases of the others are renewed all the same.
func TestLockedRowDoesNotHoldUpOthers(t *testing.T) {
	pool := newPool(t)
	begun, goOn := make(chan uuid.UUID, 2), make(chan struct{})
	e := start(t, quick(pool), Saga{Kind: "toy", Steps: []Step{{Name: "a", Do: func(ctx context.Context, r *Run) error {
		begun <- r.Operation().ID
		select {
		case <-goOn:
		case <-ctx.Done():
		}
		return ctx.Err()
	}}}})
	locked, free := create(t, e, New{Kind: "toy"}).ID, create(t, e, New{Kind: "toy"}).ID
	<-begun
	<-begun
	err := pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `SELECT FROM operations WHERE id = $1 FOR UPDATE`, locked); err != nil {
			return err
		}
		<-time.After(2 * e.cfg.Lease)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	close(goOn)
	if op := await(t, e, free); op.Status != StatusSucceeded || op.Steps[0].Attempts != 1 {
		t.Errorf("the other ended as %s after %d attempts", op.Status, op.Steps[0].Attempts)
	}
	if op := await(t, e, locked); op.Status != StatusSucceeded {
		t.Errorf("the locked one ended as %s: %v", op.Status, op.Error)
	}
}

func TestOnEndIsTriedAgain(t *testing.T) {
	pool := newPool(t)
	var tries atomic.Int32
	saga := Saga{Kind: "toy", Steps: []Step{{Name: "a", Do: nothing}}, OnEnd: func(ctx context.Context, tx pgx.Tx, op Operation) error {
		if _, err := tx.Exec(ctx, `INSERT INTO ends (op, status) VALUES ($1, $2)`, op.ID, op.Status); err != nil {
			return err
		}
		switch tries.Add(1) {
		case 1:
			panic("oops")
		case 2, 3, 4, 5:
			return errBroken
		}
		return nil
	}}
	e := start(t, quick(pool), saga)
	id := create(t, e, New{Kind: "toy"}).ID
	if op := await(t, e, id); op.Status != StatusSucceeded || tries.Load() != 6 || op.Steps[0].Attempts != 1 {
		t.Errorf("ended as %s after %d tries; the step ran %d times", op.Status, tries.Load(), op.Steps[0].Attempts)
	}
	if n := count(t, pool, `SELECT count(*) FROM ends`); n != 1 {
		t.Errorf("%d ends", n)
	}
}

func TestSupersedeBeforeItBegins(t *testing.T) {
	pool := newPool(t)
	saga := marking(pool, "toy", "a")
	e, err := NewEngine(quick(pool)) // not started yet
	if err != nil {
		t.Fatal(err)
	}
	e.Register(saga)
	op := create(t, e, New{Kind: "toy"})
	supersede := func() error {
		return pg.InTx(t.Context(), pool, func(tx pgx.Tx) error { return e.Supersede(t.Context(), tx, op.ID) })
	}
	if err := supersede(); err != nil {
		t.Fatal(err)
	}
	if err := supersede(); err != nil {
		t.Errorf("an operation that has ended: %v", err)
	}
	if n := count(t, pool, `SELECT count(*) FROM ends WHERE status = 'canceled'`); n != 1 {
		t.Errorf("OnEnd ran %d times with effect", n)
	}
	running := start(t, quick(pool), saga)
	await(t, running, create(t, running, New{Kind: "toy"}).ID) // its job comes after that of the first
	if n := count(t, pool, `SELECT count(*) FROM marks WHERE op = $1`, op.ID); n != 0 {
		t.Error("a superseded operation did something")
	}
}

func TestCreateEnded(t *testing.T) {
	pool := newPool(t)
	e := start(t, quick(pool), marking(pool, "toy", "a"))
	var op Operation
	err := pg.InTx(t.Context(), pool, func(tx pgx.Tx) (err error) {
		op, err = e.CreateEnded(t.Context(), tx, New{Kind: "toy"})
		return err
	})
	if err != nil || op.Status != StatusSucceeded || op.Progress != 100 || op.EndedAt == nil || op.Steps[0].Status != StepSkipped {
		t.Errorf("created %+v, %v", op, err)
	}
	if _, err := e.Cancel(t.Context(), op.ID); !errors.Is(err, ErrEnded) {
		t.Errorf("cancel: %v", err)
	}
}

func TestProgress(t *testing.T) {
	pool := newPool(t)
	cfg := quick(pool)
	var mu sync.Mutex
	var seen []int
	cfg.OnChange = func(op Operation) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, op.Progress)
	}
	e := start(t, cfg, Saga{Kind: "toy", Steps: []Step{{Name: "a", Do: nothing}, {Name: "b", Weight: 3, Do: func(ctx context.Context, r *Run) error {
		var wg sync.WaitGroup
		for percent := range 100 { // steps may report from goroutines of their own
			wg.Go(func() { r.Progress(ctx, percent); _ = r.Operation() })
		}
		wg.Wait()
		r.told = time.Time{}
		r.Progress(ctx, 200)
		r.told = time.Time{}
		r.Progress(ctx, 10) // never back
		return nil
	}}, {Name: "c", Do: nothing}}})
	op := await(t, e, create(t, e, New{Kind: "toy"}).ID)
	mu.Lock()
	defer mu.Unlock()
	last, at80 := 0, false
	for _, p := range seen {
		if p < last || p == 100 && p != seen[len(seen)-1] {
			t.Errorf("progress went %v", seen)
			break
		}
		last, at80 = p, at80 || p == 80
	}
	if op.Progress != 100 || !at80 || len(seen) > 20 {
		t.Errorf("progress went %v", seen)
	}
}

func TestUndoAttemptsOutliveThePause(t *testing.T) {
	pool := newPool(t)
	var tries atomic.Int32
	e := start(t, quick(pool), Saga{Kind: "toy", Steps: []Step{{Name: "a",
		Do: func(context.Context, *Run) error { return errs.New(errs.Conflict, "test.nul", "it says \x00") },
		Undo: func(context.Context, *Run) error {
			if tries.Add(1) < 6 { // pauses of 0.2 to 3.2 s
				return errBroken
			}
			return nil
		}}}})
	op := await(t, e, create(t, e, New{Kind: "toy"}).ID)
	if s := op.Steps[0]; s.UndoAttempts != 5 || s.Attempts != 1 || s.Status != StepUndone || !errors.Is(s.Error, errBroken) {
		t.Errorf("the step is %+v", s)
	}
	if op.Error == nil || op.Error.Code != "test.nul" || op.Error.Message != "it says " {
		t.Errorf("the operation failed with %v", op.Error)
	}
}

// Two engines of one process share their metrics, as two modules do.
func TestMetricsAreShared(t *testing.T) {
	pool := newPool(t)
	registry := prometheus.NewRegistry()
	cfg := quick(pool)
	cfg.Registerer = registry
	one := start(t, cfg, Saga{Kind: "one", Steps: []Step{{Name: "a", Do: nothing}}})
	two := start(t, cfg, Saga{Kind: "two", Steps: []Step{{Name: "a", Do: func(context.Context, *Run) error { return errBroken }}}})
	await(t, one, create(t, one, New{Kind: "one"}).ID)
	await(t, two, create(t, two, New{Kind: "two"}).ID)
	const want = `
# HELP novacron_operation_ended_total Operations that ended, by kind and status.
# TYPE novacron_operation_ended_total counter
novacron_operation_ended_total{kind="one",status="succeeded"} 1
novacron_operation_ended_total{kind="two",status="failed"} 1
# HELP novacron_operation_step_failures_total Attempts at a step, or at its undo, that failed.
# TYPE novacron_operation_step_failures_total counter
novacron_operation_step_failures_total{kind="two",step="a"} 1
`
	// The end is told before it is counted.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); ; <-tick.C {
		err := testutil.GatherAndCompare(registry, strings.NewReader(want), "novacron_operation_ended_total", "novacron_operation_step_failures_total")
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if n := testutil.CollectAndCount(one.metrics.live); n != 2 {
		t.Errorf("%d gauges of live operations", n)
	}
}

func TestOldOperationsAreForgotten(t *testing.T) {
	pool := newPool(t)
	e := start(t, quick(pool), Saga{Kind: "toy", Steps: []Step{{Name: "a", Do: nothing}}})
	old, young := create(t, e, New{Kind: "toy"}).ID, create(t, e, New{Kind: "toy"}).ID
	await(t, e, old)
	await(t, e, young)
	if _, err := pool.Exec(t.Context(), `UPDATE operations SET ended_at = ended_at - interval '30 days' WHERE id = $1`, old); err != nil {
		t.Fatal(err)
	}
	if err := e.forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Get(t.Context(), old); !errors.Is(err, ErrNotFound) {
		t.Errorf("the old one: %v", err)
	}
	if _, err := e.Get(t.Context(), young); err != nil {
		t.Errorf("the young one: %v", err)
	}
}

func TestKeyIsFreeAfterADay(t *testing.T) {
	pool := newPool(t)
	e := start(t, quick(pool), Saga{Kind: "toy", Steps: []Step{{Name: "a", Do: nothing}}})
	n := New{Kind: "toy", TargetID: uuid.New(), RequestedBy: uuid.New(), IdempotencyKey: "k"}
	first := create(t, e, n)
	if op, ok, err := e.FindByIdempotencyKey(t.Context(), n.RequestedBy, n.Kind, "k"); err != nil || !ok || op.ID != first.ID {
		t.Fatalf("found %v, %v, %v", op.ID, ok, err)
	}
	if _, err := pool.Exec(t.Context(), `UPDATE operations SET created_at = created_at - interval '24 hours 1 second'`); err != nil {
		t.Fatal(err)
	}
	if op, ok, err := e.FindByIdempotencyKey(t.Context(), n.RequestedBy, n.Kind, "k"); err != nil || ok {
		t.Fatalf("found %v, %v", op.ID, err)
	}
	second := create(t, e, n)
	if op, _, err := e.FindByIdempotencyKey(t.Context(), n.RequestedBy, n.Kind, "k"); err != nil || op.ID != second.ID {
		t.Errorf("found %v, want the second; %v", op.ID, err)
	}
}

func TestWaitAndWatch(t *testing.T) {
	pool := newPool(t)
	begun, goOn := make(chan struct{}, 1), make(chan struct{})
	e := start(t, quick(pool), Saga{Kind: "toy", Steps: []Step{{Name: "a", Do: func(context.Context, *Run) error {
		begun <- struct{}{}
		<-goOn
		return nil
	}}, {Name: "b", Do: nothing}}})
	id := create(t, e, New{Kind: "toy"}).ID
	<-begun
	brief, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if op, err := e.Wait(brief, id); !errors.Is(err, context.DeadlineExceeded) || op.Status != StatusRunning {
		t.Errorf("wait: %s, %v", op.Status, err)
	}
	if _, err := e.Wait(t.Context(), uuid.New()); !errors.Is(err, ErrNotFound) {
		t.Errorf("wait for nothing: %v", err)
	}
	enough := errors.New("enough")
	if err := e.Watch(t.Context(), id, func(Operation) error { return enough }); err != enough {
		t.Errorf("watch: %v", err)
	}
	var states []string
	err := e.Watch(t.Context(), id, func(op Operation) error {
		if len(states) == 0 {
			close(goOn)
		}
		states = append(states, fmt.Sprint(op.Status, " ", op.Steps[0].Status))
		return nil
	})
	if err != nil || states[0] != "running running" || states[len(states)-1] != "succeeded succeeded" {
		t.Errorf("watched %v, %v", states, err)
	}
	// In another process, which is told by the database.
	other, err := NewEngine(quick(pool))
	if err != nil {
		t.Fatal(err)
	}
	if op, err := other.Wait(t.Context(), id); err != nil || op.Status != StatusSucceeded {
		t.Errorf("elsewhere: %s, %v", op.Status, err)
	}
}

func TestStartAndStopAgain(t *testing.T) {
	pool := newPool(t)
	e, err := NewEngine(quick(pool))
	if err != nil {
		t.Fatal(err)
	}
	e.Register(Saga{Kind: "toy", Steps: []Step{{Name: "a", Do: nothing}}})
	if err := e.Stop(t.Context()); err != nil {
		t.Errorf("stop before start: %v", err)
	}
	for range 3 {
		for range 2 {
			if err := e.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if op := await(t, e, create(t, e, New{Kind: "toy"}).ID); op.Status != StatusSucceeded {
			t.Errorf("ended as %s", op.Status)
		}
		for range 2 {
			if err := e.Stop(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestRefusedConfigurations(t *testing.T) {
	pool := newPool(t)
	for name, cfg := range map[string]Config{
		"no pool":          {Schema: testSchema},
		"no schema":        {Pool: pool},
		"renewed too late": {Pool: pool, Schema: testSchema, Lease: time.Second, Renew: time.Second},
	} {
		if _, err := NewEngine(cfg); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	e, err := NewEngine(quick(pool))
	if err != nil {
		t.Fatal(err)
	}
	step := Step{Name: "a", Do: nothing}
	for name, saga := range map[string]Saga{
		"no kind":                {Steps: []Step{step}},
		"no step":                {Kind: "toy"},
		"two steps of one name":  {Kind: "toy", Steps: []Step{step, step}},
		"nothing to do":          {Kind: "toy", Steps: []Step{{Name: "a"}}},
		"unknown step no return": {Kind: "toy", Steps: []Step{step}, PointOfNoReturn: "b"},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s was accepted", name)
				}
			}()
			e.Register(saga)
		}()
	}
}
