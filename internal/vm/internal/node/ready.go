package node

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/node/guestagent"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// How long it is until a guest that is not ready is asked again: as often as for new addresses at first, and ever more seldom.
const maxReadyInterval = 30 * time.Second

// askReady asks guests that have not told yet whether they are set up, each on its own. A silent one holds up nobody.
func (n *Node) askReady(ctx context.Context) {
	if !n.connected.Load() {
		return
	}
	for _, vm := range n.watch.dueReady(time.Now()) {
		n.running.Go(func() { // ends within askTimeout
			ctx, cancel := context.WithTimeout(ctx, askTimeout)
			defer cancel()
			n.watch.ready(vm.id, vm.boot, n.isReady(ctx, vm.id), time.Now())
		})
	}
}

// isReady tells whether a guest says that it is set up. One that says nothing is not.
func (n *Node) isReady(ctx context.Context, vm uuid.UUID) bool {
	if connected, err := n.cfg.Driver.AgentConnected(ctx, vm); err != nil || !connected {
		return false
	}
	ready, err := withGuest(ctx, n, nodeapi.Command{VMID: vm}, nodeapi.Guest{}, func(a *guestagent.Agent) (bool, error) { return a.Ready(ctx) })
	return err == nil && ready
}

// booted is one time that a virtual machine was powered on.
type booted struct {
	id   uuid.UUID
	boot uint64
}

// dueReady takes the running virtual machines that are to be asked now.
func (w *watch) dueReady(now time.Time) []booted {
	w.mu.Lock()
	defer w.mu.Unlock()
	var due []booted
	for id, s := range w.vms {
		if s.status.Observed == nodeapi.ObservedRunning && s.status.ReadyAt == nil && !s.askingReady && !now.Before(s.nextReady) {
			s.askingReady = true
			due = append(due, booted{id, s.boots})
		}
	}
	return due
}

// readyAt tells when a virtual machine has said, since it came on, that it is set up. What is known may be of an earlier boot.
func (w *watch) readyAt(vm uuid.UUID, boot string) *time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.vms[vm]; s != nil && s.status.Boot == boot {
		return s.status.ReadyAt
	}
	return nil
}

// ready takes in what a guest said. What it said before it went off, or was started anew, does not count.
func (w *watch) ready(vm uuid.UUID, boot uint64, ready bool, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.vms[vm]
	if s == nil {
		return
	}
	s.askingReady = false
	s.readyPause = min(max(2*s.readyPause, w.n.cfg.NewAddressInterval), max(maxReadyInterval, w.n.cfg.NewAddressInterval))
	s.nextReady = now.Add(s.readyPause)
	if !ready || s.status.Observed != nodeapi.ObservedRunning || s.status.ReadyAt != nil || s.boots != boot {
		return
	}
	at := now.UTC()
	s.status.ReadyAt = &at
	s.status.Generation = w.n.journal.Generation(vm)
	w.n.reporter.Tell(s.status)
}
