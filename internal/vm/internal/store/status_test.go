package store

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/cache"
	"github.com/novacron/novacron/internal/platform/cache/redistest"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/platform/pg/pgtest"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/statuscache"
	"github.com/novacron/novacron/internal/vm/internal/vmdb"
)

// machines makes a store with so many virtual machines on one node.
func machines(t testing.TB, n int) (s *Store, node uuid.UUID, ids []uuid.UUID) {
	t.Helper()
	pool := pgtest.New(t, pgtest.Schema{Name: "vm", Migrations: migrations(t)}).Pool("vm")
	ops, err := operation.NewEngine(operation.Config{Pool: pool, Schema: "vm"})
	if err != nil {
		t.Fatal(err)
	}
	s, node = New(pool, ops), uuid.New()
	image := uuid.New()
	err = pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
		if _, err := s.q.ImageInsert(t.Context(), tx, vmdb.ImageInsertParams{ID: image, Name: "i", Format: "raw", Status: "ready", Kind: "disk", Visibility: "private", SharedWith: []uuid.UUID{}}); err != nil {
			return err
		}
		for i := range n {
			ids = append(ids, uuid.New())
			if err := s.q.VMInsert(t.Context(), tx, vmdb.VMInsertParams{ID: ids[i], Name: fmt.Sprint("web-", i), HypervisorType: "kvm", NodeID: &node, ResourceConfig: []byte(`{}`),
				NetworkConfig: fmt.Appendf(nil, `[{"mac":"52:54:00:00:%02x:%02x","addresses":[]}]`, i/256, i%256), StorageConfig: []byte(`[]`), ImageID: image, SshKeys: []byte(`[]`),
				Tags: []byte(`{}`), Settings: []byte(`{}`), CloudInit: []byte(`{}`), DesiredState: "running"}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, node, ids
}

// Every change of a row is told after its commit, whoever makes it, and its revision is higher than the one before.
func TestStatusesAreTold(t *testing.T) {
	s, node, ids := machines(t, 1)
	id, told := ids[0], make(chan uuid.UUID, 100)
	ctx, cancel := context.WithCancel(t.Context())
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		s.ListenStatuses(ctx, func(id uuid.UUID) { told <- id }, func(err error) { t.Error(err) })
	}()
	defer func() { cancel(); <-listening }()
	exec := func(sql string) {
		t.Helper()
		if _, err := s.pool.Exec(ctx, sql, id); err != nil {
			t.Fatal(err)
		}
	}
	heard := func(wait time.Duration) bool {
		select {
		case got := <-told:
			if got != id {
				t.Errorf("told of %s", got)
			}
			return true
		case <-time.After(wait):
			return false
		}
	}
	for !heard(50 * time.Millisecond) { // until somebody listens
		exec("UPDATE vms SET description = 'x' WHERE id = $1")
	}
	for heard(200 * time.Millisecond) { // of what was told meanwhile
	}
	last := int64(0)
	for name, change := range map[string]func(){
		"a report": func() {
			now := time.Now()
			status := nodeapi.Status{VMID: id, Observed: nodeapi.ObservedRunning, At: now, Boot: "k/1", ReadyAt: &now, Addresses: []nodeapi.Address{{MAC: "52:54:00:00:00:00", IP: "10.0.0.9"}}}
			if known, err := s.Observe(ctx, node, 3, status); err != nil || !known {
				t.Fatal(known, err)
			}
		},
		"a statement": func() { exec("UPDATE vms SET name = 'other', revision = 1 WHERE id = $1") },
	} {
		change()
		if !heard(time.Minute) {
			t.Errorf("%s is not told", name)
		}
		list, err := s.Statuses(ctx, []uuid.UUID{uuid.New(), id})
		if err != nil || len(list) != 1 || list[0].Revision <= last {
			t.Fatalf("after %s: %+v %v", name, list, err)
		}
		last = list[0].Revision
	}
	list, err := s.Statuses(ctx, ids)
	if err != nil || list[0].Name != "other" || list[0].State != vm.StateCreating && list[0].State != vm.StateRunning || list[0].ReadyAt == nil ||
		list[0].Observed.Epoch != 3 || list[0].Observed.State != "running" || len(list[0].Addresses) != 1 || list[0].Addresses[0] != "10.0.0.9" {
		t.Errorf("the status is %+v %v", list, err)
	}
	exec("DELETE FROM vms WHERE id = $1")
	if !heard(time.Minute) {
		t.Error("the end is not told")
	}
}

type uncounted struct{}

func (uncounted) Read(int, int) {}
func (uncounted) CacheFailed()  {}

// BenchmarkStatus compares what a status costs from the row, as GET /vms/{id} reads it, with what it costs from the caches; one at a time and a hundred at once.
func BenchmarkStatus(b *testing.B) {
	s, _, ids := machines(b, 1000)
	run := func(name string, many int, get func(context.Context, []uuid.UUID) (int, error)) {
		b.Run(fmt.Sprintf("%s/%d", name, many), func(b *testing.B) {
			for at := 0; at < len(ids); at += 100 { // what is measured of a cache is that it has them
				if _, err := get(b.Context(), ids[at:at+100]); err != nil {
					b.Fatal(err)
				}
			}
			for i := 0; b.Loop(); i++ {
				at := i * many % len(ids)
				if n, err := get(b.Context(), ids[at:at+many]); err != nil || n != many {
					b.Fatal(n, err)
				}
			}
		})
	}
	caches := map[string]cache.Cache{"memory": cache.NewMemory(10_000)}
	redis, err := cache.NewRedis(redistest.Start(b).URL())
	if err != nil {
		b.Fatal(err)
	}
	caches["redis"] = redis
	for _, many := range []int{1, 100} {
		run("row", many, func(ctx context.Context, ids []uuid.UUID) (int, error) {
			for i, id := range ids {
				if _, err := s.GetVM(ctx, id); err != nil {
					return i, err
				}
			}
			return len(ids), nil
		})
		run("columns", many, func(ctx context.Context, ids []uuid.UUID) (int, error) {
			list, err := s.Statuses(ctx, ids)
			return len(list), err
		})
		for name, kept := range caches {
			c := statuscache.New(statuscache.Config{Kept: kept, Read: s.Statuses, Recorder: uncounted{}, Log: slog.New(slog.DiscardHandler)})
			run(name, many, func(ctx context.Context, ids []uuid.UUID) (int, error) {
				found, err := c.Get(ctx, ids...)
				return len(found), err
			})
		}
	}
	for _, c := range caches {
		_ = c.Close()
	}
}
