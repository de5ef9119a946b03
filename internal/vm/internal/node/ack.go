package node

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// stranger is a virtual machine that the controller does not know.
type stranger struct {
	since  time.Time // of the first acknowledgement that said so
	retold bool      // and was told again since
}

// isOurs tells whether a domain belongs to our installation. As long as no controller has told which that is, every one may.
func (n *Node) isOurs(installation uuid.UUID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.installation == uuid.Nil || n.installation == installation
}

// ackedReport takes in an acknowledgement.
func (n *Node) ackedReport(ctx context.Context, r nodeapi.Report, ack nodeapi.Ack) {
	first, ok := n.belong(ack.InstallationID)
	if !ok {
		n.stopServing()
		return
	}
	if first {
		n.watch.forgetForeign(ctx)
	}
	if r.Hello {
		if err := n.serve(ctx); err != nil {
			n.cfg.Log.Error("the node cannot listen for commands", "error", err)
			return
		}
		if err := n.boot.told(); err != nil { // it is told again at the next start, which changes nothing
			n.cfg.Log.Error("the host's restart cannot be forgotten", "error", err)
		}
		n.acked.Store(true)
		n.cfg.Log.Info("the controller knows the node", "installation_id", ack.InstallationID, "virtual_machines", len(r.Statuses))
		kick(n.beatNow)
		kick(n.pollNow)
	}
	for _, vm := range n.countStrangers(r, ack, time.Now()) {
		n.running.Go(func() { n.reap(ctx, vm) }) // bounded by reapTimeout
	}
}

// belong takes the installation's id from an acknowledgement. It answers false for an id other than before: whoever is at the
// other end then must not command this node.
func (n *Node) belong(id uuid.UUID) (first, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.refused != nil:
		return false, false
	case n.installation == id && id != uuid.Nil:
		return false, true
	case n.installation == uuid.Nil && id != uuid.Nil:
		n.installation = id
		if err := writeID(n.installationPath(), id); err != nil { // it holds until the restart, and is asked for again then
			n.cfg.Log.Error("the installation's id cannot be kept", "error", err)
		}
		return true, true
	}
	n.refused = nodeapi.ErrWrongInstallation.
		WithMessage("the node belongs to the installation %s and was answered by %s", n.installation, id).
		WithAction("Point the node at its own controller, or remove " + n.installationPath() + " to give it to the other one.")
	n.cfg.Log.Error("the node belongs to another installation and refuses to work", "installation_id", n.installation, "answered_by", id)
	return false, false
}

// countStrangers answers the virtual machines that have been unknown to the controller in two acknowledgements that lie
// ReapDelay apart.
func (n *Node) countStrangers(r nodeapi.Report, ack nodeapi.Ack, now time.Time) []uuid.UUID {
	n.mu.Lock()
	defer n.mu.Unlock()
	unknown := make(map[uuid.UUID]bool, len(ack.Unknown))
	for _, vm := range ack.Unknown {
		unknown[vm] = true
	}
	var reap []uuid.UUID
	for _, s := range r.Statuses {
		mark := n.unknown[s.VMID]
		switch {
		case !unknown[s.VMID]:
			delete(n.unknown, s.VMID)
		case mark == nil:
			n.unknown[s.VMID] = &stranger{since: now}
		case now.Sub(mark.since) >= n.cfg.ReapDelay:
			delete(n.unknown, s.VMID)
			reap = append(reap, s.VMID)
		}
	}
	return reap
}

// retellStrangers tells strangers once more when they have been unknown long enough, so that the answer decides.
func (n *Node) retellStrangers() {
	n.mu.Lock()
	var due []uuid.UUID
	for vm, mark := range n.unknown {
		if !mark.retold && time.Since(mark.since) >= n.cfg.ReapDelay {
			mark.retold = true
			due = append(due, vm)
		}
	}
	n.mu.Unlock()
	for _, vm := range due {
		n.watch.retell(vm)
	}
}

// isKnown drops the mark of a virtual machine that the controller sends commands for.
func (n *Node) isKnown(vm uuid.UUID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.unknown, vm)
}

// reapTimeout bounds the removal of one leftover.
const reapTimeout = 2 * time.Minute

// reap removes what is left of a virtual machine that nobody knows, if it is provably ours.
func (n *Node) reap(ctx context.Context, vm uuid.UUID) {
	ctx, cancel := context.WithTimeout(ctx, reapTimeout)
	defer cancel()
	generation := n.journal.Generation(vm)
	state, err := n.cfg.Driver.Status(ctx, vm)
	switch {
	case err == nil:
		n.mu.Lock()
		ours := n.installation != uuid.Nil && n.installation == state.InstallationID
		n.mu.Unlock()
		if !ours {
			return
		}
		generation = max(generation, state.Generation)
	case !isNotDefined(err) || !n.store.Has(vm):
		return // the hypervisor is away, or nothing is left
	}
	n.cfg.Log.Warn("reaping a virtual machine that the controller does not know", "vm_id", vm, "generation", generation,
		"observed", state.Observed)
	turn, leave, err := n.fence.enter(ctx, vm, generation)
	if err != nil {
		return // somebody asks for it after all
	}
	defer leave()
	if err := n.remove(turn, vm, generation); err != nil {
		n.cfg.Log.Error("a leftover could not be reaped", "vm_id", vm, "error", err)
	}
}
