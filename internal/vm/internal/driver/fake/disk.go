package fake

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// Agent says what a guest's agent does.
type Agent int

// The agents.
const (
	NoAgent Agent = iota
	GoodAgent
	HungAgent // connected, and answers nothing
)

// SetAgent gives a guest an agent.
func (d *Driver) SetAgent(vm uuid.UUID, a Agent) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if dom := d.domains[vm]; dom != nil {
		dom.agent = a
		if a == GoodAgent && dom.host == nil {
			dom.host = &hostAgent{files: map[int]*os.File{}, programs: map[int]*program{}}
		}
	}
}

// IsFrozen tells whether the guest's file systems are held.
func (d *Driver) IsFrozen(vm uuid.UUID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	dom := d.domains[vm]
	return dom != nil && dom.frozen
}

// HoldDisks makes guests not let go of disks, or do so again.
func (d *Driver) HoldDisks(hold bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holdDisks = hold
}

// DiskPaths lists the disks of a guest as AttachedDisks does, also while the hypervisor is away.
func (d *Driver) DiskPaths(vm uuid.UUID) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if dom := d.domains[vm]; dom != nil {
		return dom.paths()
	}
	return nil
}

// Defined gives what the domain was defined as last.
func (d *Driver) Defined(vm uuid.UUID) driver.DomainDef {
	d.mu.Lock()
	defer d.mu.Unlock()
	if dom := d.domains[vm]; dom != nil {
		return dom.def
	}
	return driver.DomainDef{}
}

func pathsOf(def driver.DomainDef) []string {
	var paths []string
	for _, disk := range append(slices.Clone(def.Disks), def.Volumes...) {
		paths = append(paths, disk.Path)
	}
	return paths
}

func (dom *domain) paths() []string {
	if isOn(dom) {
		return slices.Clone(dom.live)
	}
	return pathsOf(dom.def)
}

// AttachedDisks implements driver.Driver.
func (d *Driver) AttachedDisks(ctx context.Context, vm uuid.UUID) ([]string, error) {
	var paths []string
	err := d.ask(ctx, "AttachedDisks", vm, func(dom *domain) error { paths = dom.paths(); return nil })
	return paths, err
}

// AttachDisk implements driver.Driver.
func (d *Driver) AttachDisk(ctx context.Context, vm uuid.UUID, disk driver.Disk) error {
	return d.domain(ctx, "AttachDisk", vm, func(dom *domain) error {
		if !isOn(dom) {
			return nodeapi.ErrHypervisorRefused
		}
		if !slices.Contains(dom.live, disk.Path) {
			dom.live = append(dom.live, disk.Path)
		}
		return nil
	})
}

// DetachDisk implements driver.Driver.
func (d *Driver) DetachDisk(ctx context.Context, vm uuid.UUID, path string) (gone bool, err error) {
	err = d.domain(ctx, "DetachDisk", vm, func(dom *domain) error {
		at := slices.Index(dom.live, path)
		if gone = at < 0; !gone && !d.holdDisks { // as with a real guest, the next look tells
			dom.live = slices.Delete(dom.live, at, at+1)
		}
		return nil
	})
	return gone, err
}

// ResizeDisk implements driver.Driver. As with a real guest, the file changes.
func (d *Driver) ResizeDisk(ctx context.Context, vm uuid.UUID, path string, size int64) error {
	return d.domain(ctx, "ResizeDisk", vm, func(dom *domain) error {
		if !isOn(dom) || !slices.Contains(dom.live, path) {
			return nodeapi.ErrHypervisorRefused
		}
		format := "qcow2"
		if strings.HasSuffix(path, ".raw") {
			format = "raw"
		}
		return qemuImg("resize", "-q", "-f", format, path, strconv.FormatInt(size, 10))
	})
}

// SnapshotDisks implements driver.Driver.
func (d *Driver) SnapshotDisks(ctx context.Context, vm uuid.UUID, name string, paths []string) error {
	return d.domain(ctx, "SnapshotDisks", vm, func(dom *domain) error {
		if !isOn(dom) {
			return nodeapi.ErrHypervisorRefused
		}
		return snapshot(name, paths)
	})
}

// snapshot makes disks hold a snapshot, once.
func snapshot(name string, paths []string) error {
	for _, path := range paths {
		if holds(path, name) {
			continue
		}
		if err := qemuImg("snapshot", "-q", "-c", name, path); err != nil {
			return err
		}
	}
	return nil
}

// SnapshotMemory implements driver.Driver.
func (d *Driver) SnapshotMemory(ctx context.Context, vm uuid.UUID, name string) (record string, err error) {
	err = d.domain(ctx, "SnapshotMemory", vm, func(dom *domain) error {
		if state, ok := dom.memory[name]; ok {
			record = string(state)
			return nil
		}
		if !isOn(dom) {
			return nodeapi.ErrHypervisorRefused
		}
		if err := snapshot(name, dom.live); err != nil {
			return err
		}
		if dom.memory == nil {
			dom.memory = map[string]nodeapi.Observed{}
		}
		dom.memory[name], record = dom.observed, string(dom.observed)
		return nil
	})
	return record, err
}

// DropSnapshot implements driver.Driver.
func (d *Driver) DropSnapshot(ctx context.Context, vm uuid.UUID, name string, paths []string) error {
	return d.domain(ctx, "DropSnapshot", vm, func(dom *domain) error {
		delete(dom.memory, name)
		if !isOn(dom) {
			return nil
		}
		for _, path := range paths {
			if !holds(path, name) {
				continue
			}
			if err := qemuImg("snapshot", "-q", "-d", name, path); err != nil {
				return err
			}
		}
		return nil
	})
}

// RevertMemory implements driver.Driver.
func (d *Driver) RevertMemory(ctx context.Context, vm uuid.UUID, name, record string) error {
	return d.domain(ctx, "RevertMemory", vm, func(dom *domain) error {
		state, ok := dom.memory[name]
		if !ok && record != "" {
			state, ok = nodeapi.Observed(record), true
		}
		if !ok {
			return nodeapi.ErrSnapshotLost
		}
		for _, path := range pathsOf(dom.def) {
			if err := qemuImg("snapshot", "-q", "-a", name, path); err != nil {
				return err
			}
		}
		d.set(vm, state, "from_snapshot")
		return nil
	})
}

// AgentConnected implements driver.Driver.
func (d *Driver) AgentConnected(ctx context.Context, vm uuid.UUID) (connected bool, err error) {
	err = d.ask(ctx, "AgentConnected", vm, func(dom *domain) error {
		connected = dom.agent != NoAgent && dom.observed == nodeapi.ObservedRunning
		return nil
	})
	return connected, err
}

// agentCall asks the agent for something that only a good one does. A hung one takes all of the patience.
func (d *Driver) agentCall(ctx context.Context, method string, vm uuid.UUID, patience time.Duration, f func(*domain)) error {
	hangs := false
	err := d.domain(ctx, method, vm, func(dom *domain) error {
		switch {
		case !isOn(dom) && method == "Thaw":
			return nil
		case dom.agent == HungAgent:
			hangs = true
			return nil
		case dom.agent == NoAgent || !isOn(dom):
			return driver.ErrNoAgent
		}
		f(dom)
		return nil
	})
	if !hangs || err != nil {
		return err
	}
	select {
	case <-time.After(patience):
	case <-ctx.Done():
	}
	// What was asked for is in the channel, and done whenever the agent wakes up.
	return d.domain(ctx, method, vm, func(dom *domain) error {
		if method == "Freeze" {
			f(dom)
		}
		return driver.ErrNoAgent
	})
}

// Freeze implements driver.Driver. What a hung agent was asked for counts as done, which is the worst that it can do.
func (d *Driver) Freeze(ctx context.Context, vm uuid.UUID, patience time.Duration) error {
	return d.agentCall(ctx, "Freeze", vm, patience, func(dom *domain) { dom.frozen = true })
}

// Thaw implements driver.Driver.
func (d *Driver) Thaw(ctx context.Context, vm uuid.UUID, patience time.Duration) error {
	return d.agentCall(ctx, "Thaw", vm, patience, func(dom *domain) { dom.frozen = false })
}

func holds(path, name string) bool {
	out, err := exec.Command("qemu-img", "snapshot", "-l", path).Output()
	return err == nil && strings.Contains(string(out), " "+name+" ")
}

func qemuImg(args ...string) error {
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		return nodeapi.ErrHypervisorRefused.WithMessage("qemu-img %s", args[0]).Wrap(fmt.Errorf("%w: %s", err, out))
	}
	return nil
}
