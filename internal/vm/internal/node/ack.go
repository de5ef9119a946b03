package node

import (
	"context"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

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
