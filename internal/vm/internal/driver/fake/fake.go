// Package fake is a hypervisor in memory for tests of the node role, with faults and delays to order. It passes drivertest, as
// the real one does.
package fake

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// Driver is the fake. Make it with New.
type Driver struct {
	mu        sync.Mutex // guards what follows
	domains   map[uuid.UUID]*domain
	networks  map[uuid.UUID]driver.NetworkDef
	away      bool
	opened    bool
	closed    bool
	faults    map[string]error
	blocks    map[string]chan struct{}
	calls     []string
	acpiAfter int
	holdDisks bool
	hosts     map[uuid.UUID][]nodeapi.NetworkHost
	holdNICs  bool
	holdDiscs bool
	on        func(driver.Event)
	pending   []driver.Event
	wake      chan struct{}
	stop      chan struct{}
	done      sync.WaitGroup
}

type domain struct {
	def       driver.DomainDef
	observed  nodeapi.Observed
	reason    string
	boots     int // how often it came on
	acpi      int // presses of the power button since the start
	addresses []nodeapi.Address
	console   *console
	noScreen  bool
	keys      int
	saved     bool             // its memory is on disk
	booted    driver.DomainDef // what it was powered on with
	size      driver.Size      // what it has
	plugged   int64            // memory that it has been given with what it was powered on with; 0: nothing was added
	title     string
	limits    map[string]nodeapi.IOLimits
	live      []string                    // paths of the disks while it is on
	nics      []nodeapi.NIC               // while it is on
	memory    map[string]nodeapi.Observed // snapshots with memory, and how the guest was
	agent     Agent
	frozen    bool
	disc      string      // in the drive while it is on
	answer    AgentAnswer // of a test's own
	host      *hostAgent  // the usual one
	stats     *driver.Stats
	cpuTime   int64
}

var _ driver.Driver = (*Driver)(nil)

// New makes a fake whose guests shut down at the first press of the power button.
func New() *Driver {
	return &Driver{
		domains: map[uuid.UUID]*domain{}, networks: map[uuid.UUID]driver.NetworkDef{}, hosts: map[uuid.UUID][]nodeapi.NetworkHost{}, faults: map[string]error{},
		blocks: map[string]chan struct{}{}, acpiAfter: 1, wake: make(chan struct{}, 1), stop: make(chan struct{}),
	}
}

// Fail makes every call of the method answer err, until it is called again with nil.
func (d *Driver) Fail(method string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults[method] = err
}

// Block makes calls of the method wait until the returned function is called. As with the real driver, calls that change
// something wait also beyond the end of their context.
func (d *Driver) Block(method string) (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	gate := make(chan struct{})
	d.blocks[method] = gate
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.blocks, method)
		close(gate)
	})
}

// ShutdownAfter sets how many presses of the power button a guest needs; a negative number means that it ignores them.
func (d *Driver) ShutdownAfter(presses int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.acpiAfter = presses
}

// SetAddresses gives a guest its addresses.
func (d *Driver) SetAddresses(vm uuid.UUID, addresses ...nodeapi.Address) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if dom := d.domains[vm]; dom != nil {
		dom.addresses = addresses
	}
}

// Calls lists the calls so far, as "Method id".
func (d *Driver) Calls() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.calls)
}

// DestroyBehind powers a domain off as another program would.
func (d *Driver) DestroyBehind(vm uuid.UUID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.set(vm, nodeapi.ObservedStopped, "destroyed")
}

// Set puts a domain into a state with no call of ours, and without an event if silent.
func (d *Driver) Set(vm uuid.UUID, o nodeapi.Observed, reason string, silent bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(d.pending)
	d.set(vm, o, reason)
	if silent {
		d.pending = d.pending[:n]
	}
}

// Leave makes the hypervisor go away; Return brings it back. Its guests live on.
func (d *Driver) Leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.away = true
	if d.opened {
		d.push(driver.Event{Kind: driver.EventDisconnected})
	}
}

// Return undoes Leave.
func (d *Driver) Return() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.away = false
	if d.opened {
		d.push(driver.Event{Kind: driver.EventConnected})
	}
}

// Reborn makes a driver that is not open yet, on the same guests: what a node finds after its restart.
func (d *Driver) Reborn() *Driver {
	d.mu.Lock()
	defer d.mu.Unlock()
	again := New()
	again.hosts, again.holdNICs = d.hosts, d.holdNICs
	again.domains, again.networks, again.acpiAfter, again.holdDisks = d.domains, d.networks, d.acpiAfter, d.holdDisks
	return again
}

// AddForeign adds a running domain of another installation.
func (d *Driver) AddForeign() uuid.UUID {
	d.mu.Lock()
	defer d.mu.Unlock()
	id := uuid.New()
	d.domains[id] = &domain{
		def:      driver.DomainDef{VMID: id, InstallationID: uuid.New()},
		observed: nodeapi.ObservedRunning, reason: "booted",
	}
	return id
}

// Open implements driver.Driver.
func (d *Driver) Open(_ context.Context, on func(driver.Event)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.opened || d.closed {
		return nodeapi.ErrHypervisor
	}
	d.opened, d.on = true, on
	d.done.Add(1)
	go d.deliver() // ends with Close
	if !d.away {
		d.push(driver.Event{Kind: driver.EventConnected})
	}
	return nil
}

// Close implements driver.Driver.
func (d *Driver) Close() error {
	d.mu.Lock()
	if !d.closed {
		d.closed = true
		close(d.stop)
	}
	d.mu.Unlock()
	d.done.Wait()
	return nil
}

func (d *Driver) deliver() {
	defer d.done.Done()
	for {
		d.mu.Lock()
		events := d.pending
		d.pending = nil
		d.mu.Unlock()
		for _, e := range events {
			d.on(e)
		}
		select {
		case <-d.wake:
		case <-d.stop:
			return
		}
	}
}

// push queues an event. The caller holds mu.
func (d *Driver) push(e driver.Event) {
	if d.away && e.Kind == driver.EventState {
		return // as with the real one, what happens meanwhile shows in the list only
	}
	e.At = time.Now()
	d.pending = append(d.pending, e)
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// set changes a domain's state and tells so. The caller holds mu.
func (d *Driver) set(vm uuid.UUID, o nodeapi.Observed, reason string) {
	dom := d.domains[vm]
	if dom == nil {
		return
	}
	if dom.console != nil && o != nodeapi.ObservedRunning && o != nodeapi.ObservedPaused {
		dom.console.end()
		dom.console = nil
	}
	if wasOn := isOn(dom); o != nodeapi.ObservedRunning && o != nodeapi.ObservedPaused {
		dom.live, dom.frozen, dom.nics = nil, false, nil
	} else if !wasOn {
		dom.boots++
		dom.live, dom.nics = pathsOf(dom.def), slices.Clone(dom.def.NICs)
	}
	dom.observed, dom.reason = o, reason
	if o == nodeapi.ObservedAbsent {
		delete(d.domains, vm)
	}
	d.push(driver.Event{Kind: driver.EventState, VMID: vm, Observed: o, Reason: reason, Saved: dom.saved, Boot: dom.boot()})
}

// call records a call, waits at a block, and runs f under mu unless a fault was ordered.
func (d *Driver) call(ctx context.Context, method string, id uuid.UUID, changes bool, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	d.calls = append(d.calls, fmt.Sprintf("%s %s", method, id))
	gate := d.blocks[method]
	d.mu.Unlock()
	if gate != nil {
		over := ctx.Done()
		if changes {
			over = nil
		}
		select {
		case <-gate:
		case <-over:
			return ctx.Err()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.away || d.closed || !d.opened {
		return nodeapi.ErrHypervisor
	}
	if err := d.faults[method]; err != nil {
		return err
	}
	return f()
}
