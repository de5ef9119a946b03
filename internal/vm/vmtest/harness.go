package vmtest

import (
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/vm"
)

// Harness lets the suite arrange what the contract has no call for. What it arranges may be shared by the tests: each has tenants of its own.
type Harness interface {
	// Service is what is tested. It runs its machines on one node.
	Service() vm.Service
	// Node is that node.
	Node(t *testing.T) uuid.UUID
	// AddImage gives an image of the tenant that the principal acts in, whose disk has a GiB at most.
	AddImage(t *testing.T, p identity.Principal) uuid.UUID
	// BreakStarts makes powering on fail with err, until it is called with nil.
	BreakStarts(t *testing.T, err *errs.Error)
}

// FakeHarness lets the suite arrange things in a fake. A transport is tested with one whose Serve is the transport's client.
type FakeHarness struct {
	*Fake
	Serve vm.Service // what is tested; nil: the fake itself
}

var _ Harness = FakeHarness{}

// Service implements Harness.
func (h FakeHarness) Service() vm.Service {
	if h.Serve != nil {
		return h.Serve
	}
	return h.Fake
}

// Node implements Harness.
func (h FakeHarness) Node(*testing.T) uuid.UUID { return h.Fake.Node() }

// AddImage implements Harness.
func (h FakeHarness) AddImage(_ *testing.T, p identity.Principal) uuid.UUID {
	return h.Fake.AddImage(p.TenantID)
}

// BreakStarts implements Harness.
func (h FakeHarness) BreakStarts(_ *testing.T, err *errs.Error) { h.Fake.BreakStarts(err) }
