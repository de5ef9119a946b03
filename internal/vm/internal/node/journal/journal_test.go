package journal_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/node/journal"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

func open(t *testing.T, dir string, now time.Time) *journal.Journal {
	t.Helper()
	j, err := journal.Open(dir, now)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestFencesAcrossRestart(t *testing.T) {
	dir, vm, now := t.TempDir(), uuid.New(), time.Now()
	j := open(t, dir, now)
	if err := j.Advance(vm, 3, false); err != nil {
		t.Fatal(err)
	}
	for _, j := range []*journal.Journal{j, open(t, dir, now)} {
		if got := j.Generation(vm); got != 3 {
			t.Errorf("generation %d, want 3", got)
		}
		for generation, stale := range map[int64]bool{2: true, 3: false, 4: false} {
			if err := j.Check(vm, generation, false); errors.Is(err, nodeapi.ErrStaleGeneration) != stale {
				t.Errorf("check %d: %v", generation, err)
			}
		}
		if err := j.Check(vm, 2, true); !errors.Is(err, nodeapi.ErrStaleGeneration) {
			t.Errorf("an older removal: %v", err)
		}
	}
}

func TestTombstone(t *testing.T) {
	dir, vm, now := t.TempDir(), uuid.New(), time.Now()
	j := open(t, dir, now)
	if err := j.Advance(vm, 5, true); err != nil {
		t.Fatal(err)
	}
	if err := j.Bury(vm, 5, now); err != nil {
		t.Fatal(err)
	}
	for _, j := range []*journal.Journal{j, open(t, dir, now.Add(journal.KeepTombstones-time.Hour))} {
		if !j.Buried(vm) {
			t.Fatal("the tombstone is lost")
		}
		if err := j.Check(vm, 5, false); !errors.Is(err, nodeapi.ErrStaleGeneration) {
			t.Errorf("a command after the removal: %v", err)
		}
		if err := j.Check(vm, 5, true); err != nil {
			t.Errorf("the removal again: %v", err)
		}
		if err := j.Check(vm, 6, false); err != nil {
			t.Errorf("a newer intent: %v", err)
		}
	}
	j = open(t, dir, now.Add(journal.KeepTombstones+time.Hour))
	if j.Buried(vm) || j.Generation(vm) != 0 {
		t.Error("an old tombstone is kept")
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("files stay: %v", left)
	}
}

func TestNewerIntentRaisesTheDead(t *testing.T) {
	dir, vm, now := t.TempDir(), uuid.New(), time.Now()
	j := open(t, dir, now)
	if err := errors.Join(j.Bury(vm, 5, now), j.Advance(vm, 6, false)); err != nil {
		t.Fatal(err)
	}
	if j = open(t, dir, now); j.Buried(vm) || j.Generation(vm) != 6 {
		t.Errorf("buried %v, generation %d", j.Buried(vm), j.Generation(vm))
	}
}

func TestDamagedFileIsNamed(t *testing.T) {
	dir, vm := t.TempDir(), uuid.New()
	if err := os.WriteFile(filepath.Join(dir, vm.String()+".json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := journal.Open(dir, time.Now()); err == nil {
		t.Error("a damaged journal opened; its fence would be lost")
	}
}
