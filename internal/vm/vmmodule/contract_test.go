package vmmodule

import (
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/vmtest"
)

// contractHarness lets the contract's suite arrange things in a world.
type contractHarness struct{ w *world }

func (h contractHarness) Service() vm.Service { return h.w.vm.Service() }

func (h contractHarness) Node(t *testing.T) uuid.UUID {
	t.Helper()
	nodes, err := h.w.sched.Service().ListNodes(t.Context(), scheduler.ListNodesRequest{})
	if err != nil || len(nodes.Nodes) != 1 {
		t.Fatalf("nodes %+v, error %v", nodes.Nodes, err)
	}
	return nodes.Nodes[0].ID
}

func (h contractHarness) AddImage(_ *testing.T, p identity.Principal) uuid.UUID {
	before := h.w.tenant
	defer func() { h.w.tenant = before }()
	h.w.tenant = p
	return h.w.image().ID
}

func (h contractHarness) BreakStarts(_ *testing.T, err *errs.Error) {
	if err == nil {
		h.w.failing(nil)
		return
	}
	h.w.failing(func(kind, step, when string) error {
		if kind == "vm.start" && step == "start" && when == "before do" {
			return err
		}
		return nil
	})
}

// The real module keeps the contract: with PostgreSQL, sagas and a node whose hypervisor is in memory. Tests of the suite have tenants of their
// own, so they share a world.
func TestContract(t *testing.T) {
	w := newWorld(t)
	vmtest.Run(t, func(*testing.T) vmtest.Harness { return contractHarness{w} })
}
