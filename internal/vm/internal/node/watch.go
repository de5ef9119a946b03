package node

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// watch knows the state of every virtual machine as it was told last, and finds what changed: by the hypervisor's events at
// once, and by asking from time to time in case an event was missed.
type watch struct {
	n *Node

	mu   sync.Mutex // guards what follows
	open bool       // the hello is made; before it, events are left to it
	vms  map[uuid.UUID]*seen
}

// seen is one virtual machine.
type seen struct {
	status  nodeapi.Status // as told last
	changes uint64         // of its state; tells whether an answer of the hypervisor is older than an event
	macs    []string
	nextAsk time.Time // for addresses
	asking  bool

	boots       uint64    // how often it came on
	nextReady   time.Time // to be asked whether it is set up
	readyPause  time.Duration
	askingReady bool
}

func newWatch(n *Node) *watch { return &watch{n: n, vms: map[uuid.UUID]*seen{}} }

// settleTime is how long a difference that a poll found must last, unexplained by an event, before it is told: the event of a
// change may be on its way, with others before it.
const settleTime = 250 * time.Millisecond

// event takes in a change that the hypervisor told.
func (w *watch) event(ctx context.Context, e driver.Event) {
	w.mu.Lock()
	known := w.vms[e.VMID] != nil
	open := w.open
	w.mu.Unlock()
	if !open {
		return
	}
	var macs []string
	if !known {
		if e.Observed == nodeapi.ObservedAbsent {
			return
		}
		state, err := w.n.cfg.Driver.Status(ctx, e.VMID)
		if err != nil || !w.n.isOurs(state.InstallationID) {
			return // gone again, foreign, or found by the next poll
		}
		macs = state.MACs
	}
	w.apply(driver.DomainState{VMID: e.VMID, Observed: e.Observed, Reason: e.Reason, Saved: e.Saved, Boot: e.Boot, MACs: macs}, e.At)
}

// apply tells a state if it is another than before. Without MACs, or a boot where it is on, those that are known are kept.
func (w *watch) apply(d driver.DomainState, at time.Time) {
	vm, o := d.VMID, d.Observed
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.vms[vm]
	if s == nil {
		if o == nodeapi.ObservedAbsent {
			return
		}
		s = &seen{status: nodeapi.Status{VMID: vm, Observed: nodeapi.ObservedAbsent}}
		w.vms[vm] = s
	}
	if d.MACs != nil {
		s.macs = d.MACs
	}
	if w.same(s.status, d) {
		return
	}
	boot, on := w.n.boot.of(d.Boot), o == nodeapi.ObservedRunning || o == nodeapi.ObservedPaused
	if on && boot == "" {
		boot = s.status.Boot
	}
	if !on || boot != s.status.Boot && s.status.Boot != "" { // it went off, or did and nobody saw it
		s.status.Addresses, s.status.ReadyAt = nil, nil
		s.boots++
		s.nextReady, s.readyPause = time.Time{}, 0
	}
	s.changes++
	s.status.Observed, s.status.Reason, s.status.Saved, s.status.At = o, w.n.boot.reason(vm, o, d.Saved, d.Reason), d.Saved, at.UTC()
	s.status.Generation, s.status.Boot = w.n.journal.Generation(vm), boot
	s.nextAsk = time.Time{}
	if o == nodeapi.ObservedAbsent {
		delete(w.vms, vm)
	}
	w.n.reporter.Tell(s.status)
}

// same tells whether nothing changed. A crash that the hypervisor has forgotten over its own restart is still one.
func (w *watch) same(last nodeapi.Status, d driver.DomainState) bool {
	return last.Observed == d.Observed && last.Saved == d.Saved && (d.Boot == "" || last.Boot == w.n.boot.of(d.Boot)) ||
		last.Observed == nodeapi.ObservedCrashed && d.Observed == nodeapi.ObservedStopped && d.Reason == driver.ReasonUnknown
}

// hello collects every status for the first report. What remains of virtual machines on the disks alone is told as absent, so that
// the controller can tell whether it still knows them.
func (w *watch) hello(ctx context.Context) ([]nodeapi.Status, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	states, err := w.n.cfg.Driver.List(ctx)
	if err != nil {
		return nil, err
	}
	folders, err := w.n.store.VMs()
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	var statuses []nodeapi.Status
	clear(w.vms)
	for _, d := range states {
		if !w.n.isOurs(d.InstallationID) {
			continue
		}
		s := &seen{macs: d.MACs, status: nodeapi.Status{
			VMID: d.VMID, Generation: w.n.journal.Generation(d.VMID), Observed: d.Observed, At: now,
			Reason: w.n.boot.reason(d.VMID, d.Observed, d.Saved, d.Reason), Saved: d.Saved,
			Boot: w.n.boot.of(d.Boot),
		}}
		w.vms[d.VMID] = s
		statuses = append(statuses, s.status)
	}
	for _, vm := range folders {
		if w.vms[vm] == nil {
			statuses = append(statuses, nodeapi.Status{
				VMID: vm, Generation: w.n.journal.Generation(vm), Observed: nodeapi.ObservedAbsent, Reason: "disks only", At: now,
			})
		}
	}
	w.open = true
	return statuses, nil
}

// poll asks for every domain and tells the differences that no event explains.
func (w *watch) poll(ctx context.Context) error {
	w.mu.Lock()
	before := make(map[uuid.UUID]uint64, len(w.vms))
	for id, s := range w.vms {
		before[id] = s.changes
	}
	w.mu.Unlock()
	states, err := w.n.cfg.Driver.List(ctx)
	if err != nil {
		return err
	}
	suspects := w.compare(states)
	if len(suspects) == 0 {
		return nil
	}
	select {
	case <-time.After(settleTime):
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, vm := range suspects {
		if err := w.confirm(ctx, vm, before[vm]); err != nil {
			return err
		}
	}
	return nil
}

// compare finds the virtual machines whose listed state is not the told one.
func (w *watch) compare(states []driver.DomainState) []uuid.UUID {
	w.mu.Lock()
	defer w.mu.Unlock()
	var suspects []uuid.UUID
	listed := make(map[uuid.UUID]bool, len(states))
	for _, d := range states {
		if !w.n.isOurs(d.InstallationID) {
			continue
		}
		listed[d.VMID] = true
		s := w.vms[d.VMID]
		if s == nil || !w.same(s.status, d) {
			suspects = append(suspects, d.VMID)
			continue
		}
		s.macs = d.MACs
	}
	for id := range w.vms {
		if !listed[id] {
			suspects = append(suspects, id)
		}
	}
	return suspects
}

// confirm asks once more for a virtual machine, and tells its state unless an event has done so since the poll began.
func (w *watch) confirm(ctx context.Context, vm uuid.UUID, changes uint64) error {
	state, err := w.n.cfg.Driver.Status(ctx, vm)
	if errors.Is(err, nodeapi.ErrNotDefined) {
		state, err = driver.DomainState{VMID: vm, Observed: nodeapi.ObservedAbsent, Reason: "undefined"}, nil
	}
	if err != nil {
		return err
	}
	w.mu.Lock()
	s := w.vms[vm]
	moved := s != nil && s.changes != changes
	w.mu.Unlock()
	if !moved {
		w.apply(state, time.Now())
	}
	return nil
}

// due takes the running virtual machines whose addresses are to be asked for now.
func (w *watch) due(now time.Time) []uuid.UUID {
	w.mu.Lock()
	defer w.mu.Unlock()
	var due []uuid.UUID
	for id, s := range w.vms {
		if s.status.Observed == nodeapi.ObservedRunning && len(s.macs) > 0 && !s.asking && !now.Before(s.nextAsk) {
			s.asking = true
			due = append(due, id)
		}
	}
	return due
}

// addresses takes in what was found out about a virtual machine's addresses.
func (w *watch) addresses(vm uuid.UUID, found []nodeapi.Address, err error, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.vms[vm]
	if s == nil {
		return
	}
	s.asking = false
	s.nextAsk = now.Add(w.n.cfg.AddressInterval)
	if err != nil || s.status.Observed != nodeapi.ObservedRunning {
		return
	}
	for _, mac := range s.macs {
		if !slices.ContainsFunc(found, func(a nodeapi.Address) bool { return a.MAC == mac }) {
			s.nextAsk = now.Add(w.n.cfg.NewAddressInterval)
		}
	}
	slices.SortFunc(found, func(a, b nodeapi.Address) int {
		if a.MAC != b.MAC {
			return slices.Compare([]byte(a.MAC), []byte(b.MAC))
		}
		return slices.Compare([]byte(a.IP), []byte(b.IP))
	})
	if slices.Equal(found, s.status.Addresses) {
		return
	}
	s.status.Addresses = found
	s.status.Generation = w.n.journal.Generation(vm)
	w.n.reporter.Tell(s.status)
}

// addressesOf gives what is known of a virtual machine's addresses.
func (w *watch) addressesOf(vm uuid.UUID) []nodeapi.Address {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.vms[vm]; s != nil {
		return s.status.Addresses
	}
	return nil
}

// forgetForeign drops what turned out to belong to another installation.
func (w *watch) forgetForeign(ctx context.Context) {
	states, err := w.n.cfg.Driver.List(ctx)
	if err != nil {
		return // the next poll compares by the installation
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range states {
		if !w.n.isOurs(d.InstallationID) {
			delete(w.vms, d.VMID)
		}
	}
}
