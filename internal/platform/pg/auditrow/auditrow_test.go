package auditrow_test

import (
	"encoding/json"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/audit"
	"github.com/novacron/novacron/internal/platform/pg/auditrow"
	"github.com/novacron/novacron/internal/platform/pg/outbox"
	"github.com/novacron/novacron/internal/platform/pg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func newPool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	text := "-- +goose Up\n" + outbox.Schema + auditrow.Schema
	return pgtest.New(t, pgtest.Schema{Name: "things", Migrations: fstest.MapFS{"00001_all.sql": {Data: []byte(text)}}}).Pool("things")
}

func record() event.Audit {
	return event.Audit{ID: uuid.Must(uuid.NewV7()), Time: time.Now().UTC().Truncate(time.Microsecond), Module: "things", Action: "thing.create",
		Result: event.AuditUnknown, Details: map[string]string{"fields": "name"}}
}

// told gives the records in the outbox.
func told(t testing.TB, pool *pgxpool.Pool) []event.Audit {
	t.Helper()
	events, err := outbox.Read(t.Context(), pool, bus.SubjectAuditRecords, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	list := make([]event.Audit, len(events))
	for i, e := range events {
		if err := json.Unmarshal(e.Payload, &list[i]); err != nil || list[i].ID != e.ID {
			t.Fatalf("%s: %v", e.Payload, err)
		}
	}
	return list
}

func intents(t testing.TB, pool *pgxpool.Pool) (n int) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM audit_intents").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestLifeOfAnIntent(t *testing.T) {
	pool := newPool(t)
	s := auditrow.New(pool)
	ctx := t.Context()
	r := record()
	if err := s.Begin(ctx, r); err != nil || intents(t, pool) != 1 {
		t.Fatal(err)
	}
	if n, err := s.Sweep(ctx); n != 0 || err != nil { // it is being worked on
		t.Fatalf("%d, %v", n, err)
	}
	r.Result, r.Status = event.AuditSuccess, 201
	for range 3 { // an answer that got lost makes the caller try again
		if err := s.End(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	if got := told(t, pool); len(got) != 1 || got[0].Result != event.AuditSuccess || intents(t, pool) != 0 {
		t.Errorf("got %+v", got)
	}

	dropped := record()
	if err := s.Begin(ctx, dropped); err != nil {
		t.Fatal(err)
	}
	if err := s.Drop(ctx, dropped.ID); err != nil || intents(t, pool) != 0 || len(told(t, pool)) != 1 {
		t.Errorf("dropped: %v", err)
	}
}

// A process that died leaves intents; one that was only slow ends its call after all.
func TestTheDeadAreSwept(t *testing.T) {
	pool := newPool(t)
	s := auditrow.New(pool)
	ctx := t.Context()
	dead, slow := record(), record()
	for _, r := range []event.Audit{dead, slow} {
		if err := s.Begin(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pool.Exec(ctx, "UPDATE audit_intents SET alive_until = now() - interval '1 second'"); err != nil {
		t.Fatal(err)
	}
	if err := s.Alive(ctx, []uuid.UUID{slow.ID}); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Sweep(ctx); n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if _, err := pool.Exec(ctx, "UPDATE audit_intents SET alive_until = now() - interval '1 second'"); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Sweep(ctx); n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	slow.Result, slow.Status = event.AuditSuccess, 201
	for range 2 {
		if err := s.End(ctx, slow); err != nil {
			t.Fatal(err)
		}
	}
	got := told(t, pool)
	if len(got) != 3 || got[0].ID != dead.ID || got[0].Result != event.AuditUnknown || got[1].Result != event.AuditUnknown {
		t.Fatalf("got %+v", got)
	}
	if late := got[2]; late.Result != event.AuditSuccess || late.Details["completes"] != slow.ID.String() || late.Details["fields"] != "name" {
		t.Errorf("got %+v", late)
	}
}

// The intent reaches the disk with what is committed after it, although its own commit does not wait: a server that is killed right after the
// second commit has both.
func TestIntentSurvivesTheServer(t *testing.T) {
	c := pgtest.NewCluster(t)
	pool := c.New(t, pgtest.Schema{Name: "things", Migrations: fstest.MapFS{"00001_all.sql": {Data: []byte("-- +goose Up\n" + outbox.Schema + auditrow.Schema + "\nCREATE TABLE things (id uuid PRIMARY KEY);")}}}).Pool("things")
	s := auditrow.New(pool)
	for range 3 {
		r := record()
		if err := s.Begin(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if _, err := pool.Exec(t.Context(), "INSERT INTO things VALUES ($1)", r.ID); err != nil {
			t.Fatal(err)
		}
		before := c.Server.PID()
		c.Kill(t)
		deadline := time.Now().Add(60 * time.Second)
		tick := time.NewTicker(50 * time.Millisecond)
		for {
			var made, meant bool
			if now := c.Server.PID(); now == 0 || now == before { // what answers until then are backends that have lost their server
				<-tick.C
				continue
			}
			err := pool.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM things WHERE id = $1), EXISTS (SELECT FROM audit_intents WHERE id = $1)", r.ID).Scan(&made, &meant)
			if err == nil {
				if !made || !meant {
					t.Fatalf("after the crash: change %v, intent %v", made, meant)
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			<-tick.C
		}
		tick.Stop()
	}
}

// BenchmarkRecordPerCall is what a record adds to a call that changes something, beside the commit of one small row.
func BenchmarkRecordPerCall(b *testing.B) {
	pool := newPool(b)
	if _, err := pool.Exec(b.Context(), "CREATE TABLE things (id uuid PRIMARY KEY)"); err != nil {
		b.Fatal(err)
	}
	change := func(id uuid.UUID) {
		if _, err := pool.Exec(b.Context(), "INSERT INTO things VALUES ($1)", id); err != nil {
			b.Fatal(err)
		}
	}
	var without time.Duration
	b.Run("without", func(b *testing.B) {
		for b.Loop() {
			change(uuid.New())
		}
		without = b.Elapsed() / time.Duration(b.N)
	})
	b.Run("with", func(b *testing.B) {
		rec, err := audit.New(audit.Config{Module: "things"})
		if err != nil {
			b.Fatal(err)
		}
		rec.Start(auditrow.New(pool))
		defer rec.Stop()
		for b.Loop() {
			ctx, call, err := rec.Begin(b.Context(), event.Audit{Action: "thing.create", Username: "ada", TenantID: uuid.New()})
			if err != nil {
				b.Fatal(err)
			}
			change(uuid.New())
			call.End(ctx, 201, "")
		}
		with := b.Elapsed() / time.Duration(b.N)
		b.ReportMetric(float64(with-without)/float64(time.Microsecond), "µs/record")
		b.ReportMetric(float64(with)/float64(without), "x_of_without")
	})
}
