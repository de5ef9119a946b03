package libvirt

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"libvirt.org/go/libvirt"

	"github.com/novacron/novacron/internal/vm/internal/driver"
)

// AskAgent implements driver.Driver. The call holds libvirt's job of the guest's agent and no other, so that a guest whose agent hangs
// can be stopped, measured and changed meanwhile; it is left behind when ctx ends, and ends by itself soon after.
func (d *Driver) AskAgent(ctx context.Context, vm uuid.UUID, command []byte, patience time.Duration) ([]byte, error) {
	slot := time.NewTimer(patience)
	defer slot.Stop()
	select {
	case d.asked <- struct{}{}:
	case <-slot.C:
		return nil, driver.ErrAgentBusy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	seconds := max(1, int(patience.Seconds()))
	type result struct {
		answer string
		err    error // of the agent
	}
	// The slot is given back when libvirt has answered, which may be after the asker has gone.
	var begun atomic.Bool
	release := sync.OnceFunc(func() { <-d.asked })
	defer func() {
		if !begun.Load() {
			release()
		}
	}()
	got, err := ask(ctx, d, "ask the guest agent", func(c *libvirt.Connect) (r result, err error) {
		begun.Store(true)
		defer release()
		err = domain(c, vm, func(dom *libvirt.Domain) error {
			connected, err := agentConnected(dom)
			if err != nil {
				return err
			}
			if !connected {
				r.err = driver.ErrNoAgent
				return nil
			}
			// The timeout is for libvirt's own question whether the agent listens, the argument below for the answer.
			if err := dom.AgentSetResponseTimeout(seconds, 0); err != nil {
				return err
			}
			r.answer, err = dom.QemuAgentCommand(string(command), libvirt.DomainQemuAgentCommandTimeout(seconds), 0)
			if refusal := agentError(err); refusal != nil {
				r.err, err = refusal, nil
			}
			return err
		})
		return r, err
	})
	if err != nil {
		return nil, err
	}
	return []byte(got.answer), got.err
}

// agentError tells what an error of libvirt says of the agent; nil: nothing.
func agentError(err error) error {
	var e libvirt.Error
	if !errors.As(err, &e) {
		return nil
	}
	switch e.Code {
	case libvirt.ERR_AGENT_UNRESPONSIVE, libvirt.ERR_AGENT_UNSYNCED, libvirt.ERR_AGENT_COMMAND_TIMEOUT, libvirt.ERR_OPERATION_TIMEOUT:
		return driver.ErrAgentSilent
	case libvirt.ERR_OPERATION_UNSUPPORTED, libvirt.ERR_ARGUMENT_UNSUPPORTED, libvirt.ERR_OPERATION_INVALID:
		return driver.ErrNoAgent
	case libvirt.ERR_INTERNAL_ERROR, libvirt.ERR_AGENT_COMMAND_FAILED:
		// "internal error: unable to execute QEMU agent command 'guest-exec': <the agent's words>" (libvirt 9.0.0, qemu_agent.c)
		text := e.Message
		if _, after, ok := strings.Cut(text, "QEMU agent command '"); ok {
			if _, words, ok := strings.Cut(after, "': "); ok {
				text = words
			}
		}
		return &driver.AgentRefusal{Message: text}
	}
	return nil
}
