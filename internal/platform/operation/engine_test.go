package operation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/pg"
)

var errBroken = errs.New(errs.Conflict, "test.broken", "it is broken")
var errAway = errs.New(errs.Unavailable, "test.away", "it is away")

func TestStepsRunInOrderAndAreRecorded(t *testing.T) {
	pool := newPool(t)
	e := start(t, quick(pool), marking(pool, "toy", "a", "b", "c"))
	op := await(t, e, create(t, e, New{Kind: "toy"}).ID)
	if op.Status != StatusSucceeded || op.Progress != 100 || op.Error != nil || op.EndedAt == nil {
		t.Fatalf("ended as %+v", op)
	}
	var last time.Time
	for _, s := range op.Steps {
		if s.Status != StepSucceeded || s.Attempts != 1 || s.EndedAt == nil || s.StartedAt.Before(last) {
			t.Errorf("step %+v", s)
		}
		last = *s.StartedAt
	}
	if n := count(t, pool, `SELECT count(*) FROM ends WHERE op = $1 AND status = 'succeeded'`, op.ID); n != 1 {
		t.Errorf("OnEnd ran %d times with effect", n)
	}
}

// Every step, its Do before and after it had its effect, fails in turn: whatever was done must be undone.
func TestFailureAfterEveryStepUndoesAll(t *testing.T) {
	pool := newPool(t)
	names := []string{"a", "b", "c", "d"}
	for _, step := range names {
		for _, when := range []string{"before do", "after do"} {
			t.Run(when+" "+step, func(t *testing.T) {
				cfg := quick(pool)
				cfg.Fault = func(_, s, w string) error {
					if s == step && w == when {
						return errBroken
					}
					return nil
				}
				e := start(t, cfg, marking(pool, "toy", names...))
				op := await(t, e, create(t, e, New{Kind: "toy"}).ID)
				if op.Status != StatusFailed || op.Error == nil || op.Error.Code != errBroken.Code || op.Error.Step != step {
					t.Errorf("ended as %s with %v", op.Status, op.Error)
				}
				if n := count(t, pool, `SELECT count(*) FROM marks WHERE op = $1`, op.ID); n != 0 {
					t.Errorf("%d marks are left", n)
				}
				for i, s := range op.Steps {
					if want := StepUndone; s.Name > step {
						want = StepSkipped
						if s.Status != want {
							t.Errorf("step %d is %s, want %s", i, s.Status, want)
						}
					} else if s.Status != want {
						t.Errorf("step %d is %s, want %s", i, s.Status, want)
					}
				}
			})
		}
	}
}

func TestRetryableErrorIsTriedAgainAlsoAfterALongPause(t *testing.T) {
	pool := newPool(t)
	var tries atomic.Int32
	saga := Saga{Kind: "toy", Deadline: time.Minute, Steps: []Step{{Name: "a", Do: func(context.Context, *Run) error {
		if tries.Add(1) < 6 { // the fifth pause is 3.2 s: lease and worker are given back
			return errAway
		}
		return nil
	}}}}
	e := start(t, quick(pool), saga)
	op := await(t, e, create(t, e, New{Kind: "toy"}).ID)
	if op.Status != StatusSucceeded || op.Steps[0].Attempts != 6 {
		t.Errorf("ended as %s after %d attempts: %v", op.Status, op.Steps[0].Attempts, op.Error)
	}
}

func TestUndoNeverGivesUp(t *testing.T) {
	pool := newPool(t)
	var tries atomic.Int32
	saga := Saga{Kind: "toy", Steps: []Step{{Name: "a",
		Do: func(context.Context, *Run) error { return errBroken },
		Undo: func(context.Context, *Run) error {
			if tries.Add(1) < 4 {
				return errBroken
			}
			return nil
		}}}}
	e := start(t, quick(pool), saga)
	op := await(t, e, create(t, e, New{Kind: "toy"}).ID)
	if op.Status != StatusFailed || tries.Load() != 4 {
		t.Errorf("ended as %s after %d attempts", op.Status, tries.Load())
	}
}

func TestDeadlineUndoes(t *testing.T) {
	pool := newPool(t)
	saga := marking(pool, "toy", "a")
	saga.Deadline = time.Second
	saga.Steps = append(saga.Steps, Step{Name: "b", Do: func(context.Context, *Run) error { return errAway }})
	e := start(t, quick(pool), saga)
	op := await(t, e, create(t, e, New{Kind: "toy"}).ID)
	if op.Status != StatusFailed || op.Error.Code != ErrDeadline.Code || op.Error.Meta["last_code"] != errAway.Code {
		t.Errorf("ended as %s: %v", op.Status, op.Error)
	}
	if n := count(t, pool, `SELECT count(*) FROM marks WHERE op = $1`, op.ID); n != 0 {
		t.Errorf("%d marks are left", n)
	}
}

// stuck is a step that tells when it has begun and lasts until its context ends.
func stuck(begun chan<- struct{}) Step {
	return Step{Name: "stuck", Do: func(ctx context.Context, _ *Run) error {
		select {
		case begun <- struct{}{}:
		default:
		}
		<-ctx.Done()
		return ctx.Err()
	}}
}

func TestCancelUndoes(t *testing.T) {
	pool := newPool(t)
	begun := make(chan struct{}, 1)
	saga := marking(pool, "toy", "a", "b")
	saga.Steps = append(saga.Steps, stuck(begun))
	e := start(t, quick(pool), saga)
	id := create(t, e, New{Kind: "toy"}).ID
	<-begun
	if _, err := e.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	op := await(t, e, id)
	if op.Status != StatusCanceled || op.Error.Code != ErrCanceled.Code {
		t.Errorf("ended as %s: %v", op.Status, op.Error)
	}
	if n := count(t, pool, `SELECT count(*) FROM marks WHERE op = $1`, id); n != 0 {
		t.Errorf("%d marks are left", n)
	}
	if _, err := e.Cancel(t.Context(), id); !errors.Is(err, ErrEnded) {
		t.Errorf("second cancel: %v", err)
	}
}

func TestPointOfNoReturn(t *testing.T) {
	pool := newPool(t)
	var tries atomic.Int32
	begun := make(chan struct{}, 16)
	saga := Saga{Kind: "toy", PointOfNoReturn: "b", Steps: []Step{
		{Name: "a", Do: func(context.Context, *Run) error { return nil }},
		{Name: "b", Do: func(context.Context, *Run) error {
			begun <- struct{}{}
			if tries.Add(1) < 4 {
				return errBroken // not retryable, and tried again all the same
			}
			return nil
		}}}}
	e := start(t, quick(pool), saga)
	id := create(t, e, New{Kind: "toy"}).ID
	<-begun
	if _, err := e.Cancel(t.Context(), id); !errors.Is(err, ErrNotCancelable) && !errors.Is(err, ErrEnded) {
		t.Errorf("cancel: %v", err)
	}
	if op := await(t, e, id); op.Status != StatusSucceeded {
		t.Errorf("ended as %s: %v", op.Status, op.Error)
	}
}

func TestSupersedeInterruptsAndFences(t *testing.T) {
	pool := newPool(t)
	begun, ended := make(chan struct{}, 1), make(chan error, 1)
	saga := marking(pool, "toy", "a")
	saga.Steps = append(saga.Steps, Step{Name: "stuck", Do: func(ctx context.Context, r *Run) error {
		begun <- struct{}{}
		<-ctx.Done()
		ended <- r.SetState(context.WithoutCancel(ctx), "too late")
		return ctx.Err()
	}})
	e := start(t, quick(pool), saga)
	id := create(t, e, New{Kind: "toy"}).ID
	<-begun
	if err := pg.InTx(t.Context(), pool, func(tx pgx.Tx) error { return e.Supersede(t.Context(), tx, id) }); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, errLost) {
		t.Errorf("write of a superseded run: %v", err)
	}
	op := await(t, e, id)
	if op.Status != StatusCanceled || op.Error.Code != ErrSuperseded.Code {
		t.Errorf("ended as %s: %v", op.Status, op.Error)
	}
	if n := count(t, pool, `SELECT count(*) FROM marks WHERE op = $1`, id); n != 1 {
		t.Errorf("%d marks: what a superseded operation did is its successor's", n)
	}
}

// A runner whose lease was taken by another process changes nothing more.
func TestLostLeaseFences(t *testing.T) {
	pool := newPool(t)
	begun, ended := make(chan struct{}, 1), make(chan error, 1)
	saga := Saga{Kind: "toy", Steps: []Step{{Name: "a", Do: func(ctx context.Context, r *Run) error {
		if r.Operation().Steps[0].Attempts > 1 {
			return nil // the second runner
		}
		begun <- struct{}{}
		<-ctx.Done()
		ended <- r.SetState(context.WithoutCancel(ctx), "too late")
		return ctx.Err()
	}}}}
	e := start(t, quick(pool), saga)
	id := create(t, e, New{Kind: "toy"}).ID
	<-begun
	if _, err := pool.Exec(t.Context(), `UPDATE operations SET lease_epoch = lease_epoch + 1, lease_until = NULL, delivered_at = '-infinity' WHERE id = $1`, id); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, errLost) {
		t.Errorf("write without the lease: %v", err)
	}
	if op := await(t, e, id); op.Status != StatusSucceeded {
		t.Errorf("ended as %s: %v", op.Status, op.Error)
	}
}

func TestStopHandsOver(t *testing.T) {
	pool := newPool(t)
	begun := make(chan struct{}, 1)
	first := Saga{Kind: "toy", Steps: []Step{stuck(begun)}}
	e := start(t, quick(pool), first)
	id := create(t, e, New{Kind: "toy"}).ID
	<-begun
	if err := e.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	var held bool
	if err := pool.QueryRow(t.Context(), `SELECT lease_until IS NOT NULL FROM operations WHERE id = $1`, id).Scan(&held); err != nil || held {
		t.Fatalf("lease is held after a clean stop: %v %v", held, err)
	}
	second := start(t, quick(pool), Saga{Kind: "toy", Steps: []Step{{Name: "stuck", Do: func(context.Context, *Run) error { return nil }}}})
	if op := await(t, second, id); op.Status != StatusSucceeded {
		t.Errorf("ended as %s: %v", op.Status, op.Error)
	}
}

func TestPanicIsAnErrorOfTheStep(t *testing.T) {
	pool := newPool(t)
	e := start(t, quick(pool), Saga{Kind: "toy", Steps: []Step{{Name: "a", Do: func(context.Context, *Run) error { panic("oops") }}}})
	if op := await(t, e, create(t, e, New{Kind: "toy"}).ID); op.Status != StatusFailed || op.Error.Code != errs.ErrInternal.Code {
		t.Errorf("ended as %s: %v", op.Status, op.Error)
	}
}

func TestStateAndInputSurvive(t *testing.T) {
	pool := newPool(t)
	type kept struct{ Disk string }
	var got kept
	var tries int
	saga := Saga{Kind: "toy", Steps: []Step{{Name: "a", Do: func(ctx context.Context, r *Run) error {
		var in kept
		if err := r.Input(&in); err != nil {
			return err
		}
		r.Progress(ctx, 50)
		return r.SetState(ctx, kept{Disk: in.Disk + "!"})
	}}, {Name: "b", Do: func(_ context.Context, r *Run) error {
		if tries++; tries == 1 {
			return errAway
		}
		return r.State(&got)
	}}}}
	e := start(t, quick(pool), saga)
	op := await(t, e, create(t, e, New{Kind: "toy", Input: kept{Disk: "root"}}).ID)
	if op.Status != StatusSucceeded || got.Disk != "root!" {
		t.Errorf("ended as %s with %+v: %v", op.Status, got, op.Error)
	}
}

func TestManyAtOnce(t *testing.T) {
	pool := newPool(t)
	e := start(t, quick(pool), marking(pool, "toy", "a", "b", "c"))
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			var op Operation
			err := pg.InTx(t.Context(), pool, func(tx pgx.Tx) (err error) {
				op, err = e.Create(t.Context(), tx, New{Kind: "toy", TargetID: uuid.New(), TenantID: uuid.New(), RequestedBy: uuid.New()})
				return err
			})
			if err != nil {
				t.Error(err)
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if op, err = e.Wait(ctx, op.ID); err != nil || op.Status != StatusSucceeded {
				t.Errorf("ended as %s: %v", op.Status, err)
			}
		})
	}
	wg.Wait()
	if n := count(t, pool, `SELECT count(*) FROM marks WHERE times = 1`); n != 300 {
		t.Errorf("%d steps ran exactly once, want 300", n)
	}
}

func TestListPagesAndFilters(t *testing.T) {
	pool := newPool(t)
	e := start(t, quick(pool), marking(pool, "toy", "a"), marking(pool, "other", "a"))
	tenant, user := uuid.New(), uuid.New()
	for i := range 7 {
		kind := "toy"
		if i == 3 {
			kind = "other"
		}
		await(t, e, create(t, e, New{Kind: kind, TargetID: uuid.New(), TenantID: tenant, RequestedBy: user, IdempotencyKey: fmt.Sprint(i)}).ID)
	}
	create(t, e, New{Kind: "toy"}) // of another tenant
	var all []Operation
	for after := (*Cursor)(nil); ; {
		page, err := e.List(t.Context(), Filter{TenantID: &tenant, Kind: "toy", After: after, Limit: 4})
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		all = append(all, page...)
		last := page[len(page)-1]
		after = &Cursor{CreatedAt: last.CreatedAt, ID: last.ID}
	}
	if len(all) != 6 {
		t.Errorf("listed %d operations, want 6", len(all))
	}
	found, ok, err := e.FindByIdempotencyKey(t.Context(), user, "other", "3")
	if err != nil || !ok || found.Kind != "other" {
		t.Errorf("by key: %+v %v %v", found, ok, err)
	}
	err = pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := e.Create(t.Context(), tx, New{Kind: "other", RequestedBy: user, IdempotencyKey: "3"})
		return err
	})
	if !errors.Is(err, ErrDuplicateKey) {
		t.Errorf("second use of a key: %v", err)
	}
	if _, err := e.Get(t.Context(), uuid.New()); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown operation: %v", err)
	}
}
