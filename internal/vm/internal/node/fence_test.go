package node_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// TestNewerIntentCutsOlderShort has a stop wait for a deaf guest while it is deleted.
func TestNewerIntentCutsOlderShort(t *testing.T) {
	w, vm := newWorld(t), uuid.New()
	w.define(vm, 1)
	w.driver.ShutdownAfter(-1)
	do[nodeapi.Status](w.controller, vm, 1, nodeapi.VerbStart, nodeapi.Empty{})
	older := make(chan error, 1)
	go func() {
		_, err := send[nodeapi.Status](t.Context(), w.controller, vm, 2, nodeapi.VerbShutdown, nodeapi.ShutdownSpec{Grace: 10 * time.Minute})
		older <- err
	}()
	eventually(t, "the press of the button", func() error {
		if !slices.Contains(w.driver.Calls(), "Shutdown "+vm.String()) {
			return errors.New("not pressed")
		}
		return nil
	})
	// Questions do not wait for the stop.
	if s := do[nodeapi.Status](w.controller, vm, 0, nodeapi.VerbInspect, nodeapi.Empty{}); s.Observed != running || s.Generation != 2 {
		t.Errorf("inspect: %+v", s)
	}
	do[nodeapi.ConsoleChunk](w.controller, vm, 0, nodeapi.VerbReadConsole, nodeapi.ConsoleRead{})
	do[nodeapi.Empty](w.controller, vm, 3, nodeapi.VerbRemove, nodeapi.Empty{})
	if err := <-older; !errors.Is(err, nodeapi.ErrStaleGeneration) {
		t.Errorf("the older command: %v", err)
	}
	w.waitTold(vm, stopped, running, stopped, absent)
}

// TestNewerIntentWaitsForTheOlderToBeOut has a start under way that cannot be taken back when the stop comes.
func TestNewerIntentWaitsForTheOlderToBeOut(t *testing.T) {
	w, vm := newWorld(t), uuid.New()
	w.define(vm, 1)
	release := w.driver.Block("Start")
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = send[nodeapi.Status](t.Context(), w.controller, vm, 2, nodeapi.VerbStart, nodeapi.Empty{})
	})
	eventually(t, "the start", func() error {
		if !slices.Contains(w.driver.Calls(), "Start "+vm.String()) {
			return errors.New("not called")
		}
		return nil
	})
	var stopErr error
	wg.Go(func() {
		_, stopErr = send[nodeapi.Status](t.Context(), w.controller, vm, 3, nodeapi.VerbShutdown, nodeapi.ShutdownSpec{})
	})
	eventually(t, "the fence", func() error { // the stop is in the house once what is older is refused
		if _, err := send[nodeapi.Status](t.Context(), w.controller, vm, 1, nodeapi.VerbStart, nodeapi.Empty{}); !errors.Is(err, nodeapi.ErrStaleGeneration) {
			return fmt.Errorf("an older command: %w", err)
		}
		return nil
	})
	if slices.Contains(w.driver.Calls(), "Destroy "+vm.String()) {
		t.Error("the stop did not wait for the start to be out")
	}
	release()
	wg.Wait()
	if stopErr != nil {
		t.Errorf("the stop: %v", stopErr)
	}
	if s := do[nodeapi.Status](w.controller, vm, 0, nodeapi.VerbInspect, nodeapi.Empty{}); s.Observed != stopped {
		t.Errorf("the newest intent lost: %+v", s)
	}
}

func TestEqualGenerationsTakeTurnsAndOthersRunBeside(t *testing.T) {
	w, vm, other := newWorld(t), uuid.New(), uuid.New()
	w.define(vm, 1)
	w.define(other, 1)
	release := w.driver.Block("Start")
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if _, err := send[nodeapi.Status](t.Context(), w.controller, vm, 1, nodeapi.VerbStart, nodeapi.Empty{}); err != nil {
				t.Errorf("start: %v", err)
			}
		})
	}
	starts := func() int {
		return len(slices.DeleteFunc(w.driver.Calls(), func(c string) bool { return !strings.HasPrefix(c, "Start "+vm.String()) }))
	}
	eventually(t, "the first start", func() error {
		if starts() == 0 {
			return errors.New("none")
		}
		return nil
	})
	do[nodeapi.Status](w.controller, other, 1, nodeapi.VerbShutdown, nodeapi.ShutdownSpec{}) // not held up
	if n := starts(); n != 1 {
		t.Errorf("%d starts at once", n)
	}
	release()
	wg.Wait()
	if n := starts(); n != 5 {
		t.Errorf("%d starts", n)
	}
	w.waitTold(vm, stopped, running)
}

func TestFenceHoldsAcrossRestart(t *testing.T) {
	w, vm, gone := newWorld(t), uuid.New(), uuid.New()
	w.define(vm, 5)
	w.define(gone, 7)
	do[nodeapi.Empty](w.controller, gone, 7, nodeapi.VerbRemove, nodeapi.Empty{})
	for range 2 {
		stale := func(vm uuid.UUID, generation int64, verb nodeapi.Verb, req any) {
			t.Helper()
			if _, err := send[nodeapi.Empty](t.Context(), w.controller, vm, generation, verb, req); !errors.Is(err, nodeapi.ErrStaleGeneration) {
				t.Errorf("%s of generation %d: %v", verb, generation, err)
			}
		}
		stale(vm, 4, nodeapi.VerbStart, nodeapi.Empty{})
		stale(vm, 4, nodeapi.VerbRemove, nodeapi.Empty{})
		stale(gone, 7, nodeapi.VerbEnsureDisk, nodeapi.DiskSpec{Name: "root", SizeBytes: 1 << 20})
		stale(gone, 6, nodeapi.VerbRemove, nodeapi.Empty{})
		do[nodeapi.Empty](w.controller, gone, 7, nodeapi.VerbRemove, nodeapi.Empty{})
		if _, err := os.Stat(filepath.Join(w.dir, "node", "disks", gone.String())); !os.IsNotExist(err) {
			t.Errorf("a late command made something of what was removed: %v", err)
		}
		w.restart(t)
	}
	do[nodeapi.Status](w.controller, vm, 5, nodeapi.VerbStart, nodeapi.Empty{})
	if s := do[nodeapi.Status](w.controller, vm, 6, nodeapi.VerbStart, nodeapi.Empty{}); s.Generation != 6 {
		t.Errorf("status %+v", s)
	}
}

// TestRemoveGoesOnWhereItFailed lets the hypervisor fail in each step of a removal.
func TestRemoveGoesOnWhereItFailed(t *testing.T) {
	for _, step := range []string{"Destroy", "Undefine", "ReleaseLeases"} {
		t.Run(step, func(t *testing.T) {
			w, vm := newWorld(t), uuid.New()
			w.define(vm, 1)
			do[nodeapi.Status](w.controller, vm, 1, nodeapi.VerbStart, nodeapi.Empty{})
			w.driver.Fail(step, nodeapi.ErrHypervisor)
			_, err := send[nodeapi.Empty](t.Context(), w.controller, vm, 2, nodeapi.VerbRemove, nodeapi.Empty{})
			if step != "ReleaseLeases" && !errs.Retryable(err) || step == "ReleaseLeases" && err != nil {
				t.Errorf("remove: %v", err)
			}
			// The tombstone stands already.
			if _, err := send[nodeapi.Empty](t.Context(), w.controller, vm, 2, nodeapi.VerbStart, nodeapi.Empty{}); !errors.Is(err, nodeapi.ErrStaleGeneration) {
				t.Errorf("start after a removal that failed: %v", err)
			}
			w.driver.Fail(step, nil)
			do[nodeapi.Empty](w.controller, vm, 2, nodeapi.VerbRemove, nodeapi.Empty{})
			if list := do[nodeapi.StatusList](w.controller, uuid.Nil, 0, nodeapi.VerbList, nodeapi.Empty{}); len(list.Statuses) != 0 {
				t.Errorf("left: %+v", list)
			}
			if left, _ := os.ReadDir(filepath.Join(w.dir, "node", "disks")); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestSameRebootRebootsOnce(t *testing.T) {
	w, vm := newWorld(t), uuid.New()
	w.define(vm, 1)
	do[nodeapi.Status](w.controller, vm, 1, nodeapi.VerbStart, nodeapi.Empty{})
	cmd := nodeapi.Command{ID: uuid.New(), InstallationID: w.installation, VMID: vm, Generation: 1, Verb: nodeapi.VerbReboot}
	for _, err := range w.again(3, cmd) {
		if err != nil {
			t.Fatal(err)
		}
	}
	w.waitTold(vm, stopped, running, stopped, running)
	cmd.ID = uuid.New()
	w.again(1, cmd)
	w.waitTold(vm, stopped, running, stopped, running, stopped, running)
}

func TestWrongInstallation(t *testing.T) {
	w, vm := newWorld(t), uuid.New()
	w.define(vm, 1)
	other := uuid.New()
	cmd := nodeapi.Command{ID: uuid.New(), InstallationID: other, VMID: vm, Generation: 2, Verb: nodeapi.VerbRemove}
	if err := w.again(1, cmd)[0]; !errors.Is(err, nodeapi.ErrWrongInstallation) {
		t.Errorf("a command of another installation: %v", err)
	}
	// The same node answered by another controller refuses to work, also after a restart.
	w.set(func() { w.installation = other })
	w.stop()
	w.driver = w.driver.Reborn()
	w.node, w.stop = start(t, w.controller, w.dir, w.driver)
	eventually(t, "the refusal", func() error {
		if err := w.node.Ready(t.Context()); !errors.Is(err, nodeapi.ErrWrongInstallation) {
			return fmt.Errorf("ready: %w", err)
		}
		return nil
	})
	if err := w.again(1, cmd)[0]; err == nil {
		t.Error("another installation commands the node")
	}
}

func TestReportsRepeatUntilAcknowledged(t *testing.T) {
	w, vm := newWorld(t), uuid.New()
	w.define(vm, 1)
	w.waitTold(vm, stopped)
	w.set(func() { w.refuse = errors.New("no database") })
	do[nodeapi.Status](w.controller, vm, 1, nodeapi.VerbStart, nodeapi.Empty{})
	do[nodeapi.Status](w.controller, vm, 1, nodeapi.VerbShutdown, nodeapi.ShutdownSpec{})
	do[nodeapi.Status](w.controller, vm, 1, nodeapi.VerbStart, nodeapi.Empty{})
	w.wait("repetitions", func() bool {
		n := 0
		for _, r := range w.reports {
			if r.ID == w.reports[len(w.reports)-1].ID {
				n++
			}
		}
		return n >= 3
	})
	w.set(func() { w.refuse = nil })
	w.waitTold(vm, stopped, running, stopped, running)
}

// What the controller has no row of may be all that is left of a machine whose row was lost: the node removes none of it by itself.
func TestStrangersAreLeftAlone(t *testing.T) {
	w, vm, bare := newWorld(t), uuid.New(), uuid.New()
	w.define(vm, 1)
	do[nodeapi.Empty](w.controller, bare, 1, nodeapi.VerbEnsureDisk, nodeapi.DiskSpec{Name: "root", SizeBytes: 1 << 20})
	do[nodeapi.Status](w.controller, vm, 1, nodeapi.VerbStart, nodeapi.Empty{})
	w.waitTold(vm, stopped, running)
	w.restart(t) // its hello tells of everything
	w.waitTold(vm, stopped, running, running)
	for _, id := range []uuid.UUID{vm, bare} {
		if _, err := os.Stat(filepath.Join(w.dir, "node", "disks", id.String(), "root.qcow2")); err != nil {
			t.Error(err)
		}
	}
	if state, err := w.driver.Status(t.Context(), vm); err != nil || state.Observed != nodeapi.ObservedRunning {
		t.Errorf("it is %+v, %v", state, err)
	}
}
