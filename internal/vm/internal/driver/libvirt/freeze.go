package libvirt

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"libvirt.org/go/libvirt"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// AgentConnected implements driver.Driver.
func (d *Driver) AgentConnected(ctx context.Context, vm uuid.UUID) (bool, error) {
	return ask(ctx, d, "look for the guest agent", func(c *libvirt.Connect) (connected bool, err error) {
		err = domain(c, vm, func(dom *libvirt.Domain) error {
			connected, err = agentConnected(dom)
			return err
		})
		return connected, err
	})
}

// agentCall asks a guest agent for something, and waits for a slot and for its answer no longer than patience each.
func (d *Driver) agentCall(ctx context.Context, what string, vm uuid.UUID, patience time.Duration, f func(*libvirt.Domain) error) error {
	slot := time.NewTimer(patience)
	defer slot.Stop()
	select {
	case d.agent <- struct{}{}:
	case <-slot.C:
		return driver.ErrNoAgent
	case <-ctx.Done():
		return ctx.Err()
	}
	// The slot is given back when the call returns, which may be after this function has when the connection is lost.
	var begun atomic.Bool
	release := sync.OnceFunc(func() { <-d.agent })
	defer func() {
		if !begun.Load() {
			release()
		}
	}()
	return d.change(ctx, what, func(c *libvirt.Connect) error {
		begun.Store(true)
		defer release()
		return domain(c, vm, func(dom *libvirt.Domain) error {
			connected, err := agentConnected(dom)
			if err != nil {
				return err
			}
			if !connected {
				return driver.ErrNoAgent
			}
			if err := dom.AgentSetResponseTimeout(max(1, int(patience.Seconds())), 0); err != nil {
				return err
			}
			err = f(dom)
			if isCode(err, libvirt.ERR_AGENT_UNRESPONSIVE, libvirt.ERR_AGENT_UNSYNCED, libvirt.ERR_AGENT_COMMAND_TIMEOUT,
				libvirt.ERR_AGENT_COMMAND_FAILED, libvirt.ERR_OPERATION_UNSUPPORTED, libvirt.ERR_OPERATION_TIMEOUT, libvirt.ERR_INTERNAL_ERROR) {
				return driver.ErrNoAgent
			}
			return err
		})
	})
}

// Freeze implements driver.Driver.
func (d *Driver) Freeze(ctx context.Context, vm uuid.UUID, patience time.Duration) error {
	return d.agentCall(ctx, "freeze the guest", vm, patience, func(dom *libvirt.Domain) error { return dom.FSFreeze(nil, 0) })
}

// Thaw implements driver.Driver.
func (d *Driver) Thaw(ctx context.Context, vm uuid.UUID, patience time.Duration) error {
	state, err := d.Status(ctx, vm)
	if err != nil || state.Observed != nodeapi.ObservedRunning && state.Observed != nodeapi.ObservedPaused {
		return err
	}
	err = d.agentCall(ctx, "thaw the guest", vm, patience, func(dom *libvirt.Domain) error { return dom.FSThaw(nil, 0) })
	if isCode(err, libvirt.ERR_OPERATION_INVALID) { // it is off
		return nil
	}
	return err
}
