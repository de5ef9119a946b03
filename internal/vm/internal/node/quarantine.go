package node

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// quarantine sets a machine or volume aside that no row knows. Each step can be repeated, and what a crash leaves is found by the next audit. It leaves
// no tombstone: with a row that comes back, the machine can come back.
func (n *Node) quarantine(ctx context.Context, c nodeapi.Command, req nodeapi.QuarantineSpec) (nodeapi.Empty, error) {
	if req.ID == uuid.Nil || req.Kind != nodeapi.QuarantineVM && req.Kind != nodeapi.QuarantineVolume {
		return nodeapi.Empty{}, nodeapi.ErrInvalidCommand.WithMessage("%q of kind %q cannot be set aside", req.ID, req.Kind)
	}
	ctx, leave, err := n.fence.enter(ctx, req.ID, n.journal.Generation(req.ID))
	if err != nil {
		return nodeapi.Empty{}, err
	}
	defer leave()
	definition := ""
	if req.Kind == nodeapi.QuarantineVM {
		if definition, err = n.quieten(ctx, c.InstallationID, req); err != nil {
			return nodeapi.Empty{}, err
		}
	}
	if err := n.store.BeginQuarantine(req.Kind, req.ID, definition, time.Now()); err != nil {
		return nodeapi.Empty{}, err
	}
	if definition != "" {
		if err := n.cfg.Driver.ReleaseLeases(ctx, req.ID); err != nil {
			n.cfg.Log.Debug("leases are left to expire", "vm_id", req.ID, "error", err)
		}
		if err := n.cfg.Driver.Undefine(ctx, req.ID); err != nil {
			return nodeapi.Empty{}, err
		}
	}
	return nodeapi.Empty{}, n.store.QuarantineFiles(req.Kind, req.ID)
}

// quieten answers the definition of a domain that is off, or that it powers off because that is asked for; empty where there is none.
func (n *Node) quieten(ctx context.Context, installation uuid.UUID, req nodeapi.QuarantineSpec) (string, error) {
	state, err := n.cfg.Driver.Status(ctx, req.ID)
	switch {
	case isNotDefined(err):
		return "", nil
	case err != nil:
		return "", err
	case state.InstallationID != installation:
		return "", nodeapi.ErrWrongInstallation.WithMessage("the domain belongs to another installation")
	}
	if holdsMemory(state) {
		if !req.Force {
			return "", nodeapi.ErrGuestOn
		}
		if err := n.cfg.Driver.Destroy(ctx, req.ID); err != nil {
			return "", err
		}
	}
	return n.cfg.Driver.Definition(ctx, req.ID)
}

func (n *Node) restore(ctx context.Context, _ nodeapi.Command, req nodeapi.ObjectRef) (nodeapi.Empty, error) {
	_, leave, err := n.fence.enter(ctx, req.ID, n.journal.Generation(req.ID))
	if err != nil {
		return nodeapi.Empty{}, err
	}
	defer leave()
	return nodeapi.Empty{}, n.store.Restore(req.ID)
}

func (n *Node) reap(ctx context.Context, _ nodeapi.Command, req nodeapi.ObjectRef) (nodeapi.Empty, error) {
	_, leave, err := n.fence.enter(ctx, req.ID, n.journal.Generation(req.ID))
	if err != nil {
		return nodeapi.Empty{}, err
	}
	defer leave()
	return nodeapi.Empty{}, n.store.Reap(req.ID)
}
