package node

import (
	"context"
	"io"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// maxConsoles bounds the consoles that are open at once on a node.
const maxConsoles = 64

func (n *Node) readConsole(_ context.Context, c nodeapi.Command, req nodeapi.ConsoleRead) (nodeapi.ConsoleChunk, error) {
	return n.store.ReadConsole(c.VMID, req)
}

// serialConsole opens the serial console of a guest and tells what it wrote before. The log is read once the console is open: what the guest
// writes just then may be seen twice, and is never missed.
func (n *Node) serialConsole(ctx context.Context, vm uuid.UUID) (io.ReadWriteCloser, []byte, error) {
	console, err := n.cfg.Driver.OpenConsole(ctx, vm)
	if err != nil {
		return nil, nil, err
	}
	before, err := n.store.ReadConsole(vm, nodeapi.ConsoleRead{Offset: -recentMax, MaxBytes: recentMax})
	if err != nil {
		n.cfg.Log.WarnContext(ctx, "a viewer does not see what the guest wrote before", "vm_id", vm, "error", err)
	}
	return console, before.Data, nil
}

// openConsole connects a stream of the controller to a console: the screen, or the serial console, which it shares with other viewers, and answers when both are connected. They
// stay so until either end closes or the node stops.
func (n *Node) openConsole(ctx context.Context, c nodeapi.Command, req nodeapi.ConsoleOpen) (nodeapi.Empty, error) {
	select {
	case n.consoles <- struct{}{}:
	default:
		return nodeapi.Empty{}, nodeapi.ErrViewers.WithMessage("too many consoles of the node are open")
	}
	free := func() { <-n.consoles }
	if req.Kind == nodeapi.ConsoleVNC {
		return n.openScreen(ctx, c, req, free)
	}
	console, leave, err := n.shared.join(ctx, c.VMID, func() (io.ReadWriteCloser, []byte, error) { return n.serialConsole(ctx, c.VMID) })
	if err != nil {
		free()
		return nodeapi.Empty{}, err
	}
	conn, err := n.cfg.Dialer.Upgrade(ctx, req.StreamURL)
	if err != nil {
		leave()
		free()
		return nodeapi.Empty{}, nodeapi.ErrInvalidCommand.WithMessage("the console's stream cannot be reached").Wrap(err)
	}
	n.running.Go(func() { // ends when either end closes, or with the node
		defer free()
		console.serve(n.life, conn, leave)
	})
	return nodeapi.Empty{}, nil
}
