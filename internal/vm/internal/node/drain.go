package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/atomicfile"
	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// bootRecord is what a node must remember over the restart of its host.
type bootRecord struct {
	BootID string `json:"boot_id"` // of the kernel that the node ran under last
	// Drained lists the guests that ran when the host was about to shut down.
	Drained []uuid.UUID `json:"drained,omitempty"`
}

// boot knows whether the host was restarted, and which guests were shut down for it.
type boot struct {
	path string
	id   string // of the running kernel

	mu       sync.Mutex // guards what follows
	rebooted bool       // since the node ran last
	before   []uuid.UUID
	draining map[uuid.UUID]bool // not nil while the host shuts down
}

// bootIDPath tells the running kernel from every other.
// Source: Documentation/admin-guide/sysctl/kernel.rst, "random".
const bootIDPath = "/proc/sys/kernel/random/boot_id"

func openBoot(dir, idPath string) (*boot, error) {
	id, err := os.ReadFile(idPath)
	if err != nil {
		return nil, fmt.Errorf("read the id of the running kernel: %w", err)
	}
	b := &boot{path: filepath.Join(dir, "boot.json"), id: strings.TrimSpace(string(id))}
	text, err := os.ReadFile(b.path)
	if errors.Is(err, os.ErrNotExist) {
		return b, nil // the first start ever, or of a version that knew no such file
	}
	if err != nil {
		return nil, fmt.Errorf("read what was before the host's restart: %w", err)
	}
	var r bootRecord
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("read what was before the host's restart: %w", err)
	}
	b.rebooted, b.before = r.BootID != b.id, r.Drained
	return b, nil
}

func (b *boot) write(drained []uuid.UUID) error {
	text, err := json.Marshal(bootRecord{BootID: b.id, Drained: drained})
	if err != nil {
		return fmt.Errorf("encode what is before the host's restart: %w", err)
	}
	if err := atomicfile.Write(b.path, text, 0o600); err != nil {
		return fmt.Errorf("keep what is before the host's restart: %w", err)
	}
	return nil
}

// reason gives the reason that a guest which is off shows with: that of the host's end where there is one.
func (b *boot) reason(vm uuid.UUID, o nodeapi.Observed, saved bool, reason string) string {
	if o != nodeapi.ObservedStopped || saved {
		return reason
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.draining[vm]:
		return nodeapi.ReasonHostShutdown
	case b.rebooted || slices.Contains(b.before, vm):
		return nodeapi.ReasonHostReboot
	}
	return reason
}

// of makes what a driver tells of a guest's boot stand for itself: the numbers of hypervisors begin anew with the host.
func (b *boot) of(guest string) string {
	if guest == "" {
		return ""
	}
	return b.id + "/" + guest
}

// told notes that the controller knows of the restart. From then on a guest that is off is off for another reason.
func (b *boot) told() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.draining != nil {
		return nil
	}
	b.rebooted, b.before = false, nil
	return b.write(nil)
}

func (b *boot) isDraining() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.draining != nil
}

// DrainForReboot shuts all guests down, those last that are started first, and refuses to start any until the node itself has started
// again. Who still runs when ctx ends is powered off by the host's end.
func (n *Node) DrainForReboot(ctx context.Context, grace time.Duration) error {
	states, err := n.cfg.Driver.List(ctx)
	if err != nil {
		return err
	}
	states = slices.DeleteFunc(states, func(s driver.DomainState) bool {
		return !n.isOurs(s.InstallationID) || s.Observed != nodeapi.ObservedRunning && s.Observed != nodeapi.ObservedPaused
	})
	slices.SortFunc(states, func(a, b driver.DomainState) int { return b.Autostart - a.Autostart })
	if err := n.boot.drain(states); err != nil {
		return err
	}
	n.cfg.Log.Info("the host shuts down; guests are shut down first", "guests", len(states), "grace", grace)
	var failed error
	for len(states) > 0 {
		end := slices.IndexFunc(states, func(s driver.DomainState) bool { return s.Autostart != states[0].Autostart })
		if end < 0 {
			end = len(states)
		}
		failed = errors.Join(failed, n.shutdownAll(ctx, states[:end], grace))
		states = states[end:]
	}
	return failed
}

// drain notes what runs, before any of it is shut down.
func (b *boot) drain(states []driver.DomainState) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.draining == nil {
		b.draining = map[uuid.UUID]bool{}
	}
	for _, s := range states {
		b.draining[s.VMID] = true
	}
	var ids []uuid.UUID
	for id := range b.draining {
		ids = append(ids, id)
	}
	return b.write(ids)
}

// shutdownAll shuts guests down at the same time.
func (n *Node) shutdownAll(ctx context.Context, states []driver.DomainState, grace time.Duration) error {
	failures := make([]error, len(states))
	var all sync.WaitGroup
	for i, s := range states {
		all.Go(func() { // ends with the guest, its grace time or ctx
			if err := n.powerOff(ctx, s.VMID, grace); err != nil && !isNotDefined(err) {
				failures[i] = fmt.Errorf("shut guest %s down: %w", s.VMID, err)
			}
		})
	}
	all.Wait()
	return errors.Join(failures...)
}

func (n *Node) drainForReboot(ctx context.Context, _ nodeapi.Command, req nodeapi.ShutdownSpec) (nodeapi.Empty, error) {
	return nodeapi.Empty{}, n.DrainForReboot(ctx, min(req.Grace, maxGrace))
}
