package node_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/node"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// wall is a firewall whose rules fail while broken is set, and which something outside can spoil.
type wall struct {
	mu      sync.Mutex // guards what follows
	broken  bool
	version int64
}

func (w *wall) Apply(_ context.Context, policy nodeapi.Policy) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case policy.Version < w.version:
		return false, nodeapi.ErrStaleGeneration
	case w.broken:
		return false, nodeapi.ErrFirewall
	}
	w.version = policy.Version
	return true, nil
}

func (w *wall) Repair(context.Context) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken {
		return false, nodeapi.ErrFirewall
	}
	return true, nil
}

func (w *wall) Policy() nodeapi.Policy {
	w.mu.Lock()
	defer w.mu.Unlock()
	return nodeapi.Policy{Version: w.version}
}

func (w *wall) set(broken bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = broken
}

// Nothing starts while the guests are not protected, and everything as soon as they are, long before the next look at the firewall.
func TestProtectionDecidesWhatStarts(t *testing.T) {
	fw := &wall{}
	w := newWorld(t, func(c *node.Config) { c.Firewall, c.FirewallInterval = fw, time.Hour })
	vm := uuid.New()
	w.define(vm, 1)
	begin := func() error {
		_, err := send[nodeapi.Status](t.Context(), w.controller, vm, 1, nodeapi.VerbStart, nodeapi.Empty{})
		return err
	}
	apply := func(version int64) error {
		_, err := send[nodeapi.PolicyApplied](t.Context(), w.controller, uuid.Nil, 0, nodeapi.VerbApplyPolicy, nodeapi.Policy{Version: version})
		return err
	}
	eventually(t, "the protection at the start", begin)
	do[nodeapi.Status](w.controller, vm, 1, nodeapi.VerbShutdown, nodeapi.ShutdownSpec{Grace: time.Minute})

	if err := errors.Join(apply(2), apply(3)); err != nil {
		t.Fatal(err)
	}
	if err := apply(2); !errors.Is(err, nodeapi.ErrStaleGeneration) {
		t.Errorf("an old policy: %v", err)
	}
	if err := begin(); err != nil { // what came late has changed nothing
		t.Errorf("start after an old policy: %v", err)
	}
	do[nodeapi.Status](w.controller, vm, 1, nodeapi.VerbShutdown, nodeapi.ShutdownSpec{Grace: time.Minute})

	fw.set(true)
	if err := apply(4); !errors.Is(err, nodeapi.ErrFirewall) {
		t.Errorf("a policy that does not come into force: %v", err)
	}
	if err := begin(); !errors.Is(err, nodeapi.ErrFirewall) {
		t.Errorf("start without protection: %v", err)
	}
	fw.set(false)
	eventually(t, "a start with protection", begin)
}
