package node

import (
	"context"
	"io"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// maxConsoles bounds the consoles that are open at once on a node.
const maxConsoles = 64

func (n *Node) readConsole(_ context.Context, c nodeapi.Command, req nodeapi.ConsoleRead) (nodeapi.ConsoleChunk, error) {
	return n.store.ReadConsole(c.VMID, req)
}

// openConsole connects the serial console to a stream of the controller and answers when both are connected. They stay so until
// either end closes or the node stops.
func (n *Node) openConsole(ctx context.Context, c nodeapi.Command, req nodeapi.ConsoleOpen) (nodeapi.Empty, error) {
	select {
	case n.consoles <- struct{}{}:
	default:
		return nodeapi.Empty{}, nodeapi.ErrHypervisorRefused.WithMessage("too many consoles of the node are open").WithRetryable(true)
	}
	free := func() { <-n.consoles }
	console, err := n.cfg.Driver.OpenConsole(ctx, c.VMID)
	if err != nil {
		free()
		return nodeapi.Empty{}, err
	}
	conn, err := n.cfg.Dialer.Upgrade(ctx, req.StreamURL)
	if err != nil {
		_ = console.Close()
		free()
		return nodeapi.Empty{}, nodeapi.ErrInvalidCommand.WithMessage("the console's stream cannot be reached").Wrap(err)
	}
	n.running.Go(func() { // ends when either end closes, or with the node
		defer free()
		pump(n.life, console, conn)
	})
	return nodeapi.Empty{}, nil
}

// pump copies both ways until either side ends, then closes both.
func pump(ctx context.Context, a, b io.ReadWriteCloser) {
	ended := make(chan struct{}, 2)
	oneWay := func(dst io.Writer, src io.Reader) {
		_, _ = io.Copy(dst, src) // an error is the end of the session, and that is all there is to tell
		ended <- struct{}{}
	}
	go oneWay(a, b) // both end when both sides are closed
	go oneWay(b, a)
	left := 2
	select {
	case <-ended:
		left--
	case <-ctx.Done():
	}
	_ = a.Close()
	_ = b.Close()
	for ; left > 0; left-- {
		<-ended
	}
}
