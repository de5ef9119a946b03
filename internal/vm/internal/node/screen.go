package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"image/png"
	"io"
	"net"
	"sync"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// viewers counts who watches which screen. Each has a connection to the guest's VNC server of its own, which shares the screen itself.
type viewers struct {
	mu sync.Mutex // guards of
	of map[uuid.UUID]int
}

func (v *viewers) enter(vm uuid.UUID) (leave func(), err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.of[vm] >= maxViewers {
		return nil, errTooManyViewers
	}
	if v.of == nil {
		v.of = map[uuid.UUID]int{}
	}
	v.of[vm]++
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.of[vm]--; v.of[vm] == 0 {
			delete(v.of, vm)
		}
	}, nil
}

// openScreen connects a stream of the controller to the screen, and answers when both are connected.
func (n *Node) openScreen(ctx context.Context, c nodeapi.Command, req nodeapi.ConsoleOpen, free func()) (nodeapi.Empty, error) {
	leave, err := n.screens.enter(c.VMID)
	if err != nil {
		free()
		return nodeapi.Empty{}, err
	}
	end := func() { leave(); free() }
	screen, err := n.cfg.Driver.OpenScreen(ctx, c.VMID)
	if err != nil {
		end()
		return nodeapi.Empty{}, err
	}
	conn, err := n.cfg.Dialer.Upgrade(ctx, req.StreamURL)
	if err != nil {
		_ = screen.Close()
		end()
		return nodeapi.Empty{}, nodeapi.ErrInvalidCommand.WithMessage("the console's stream cannot be reached").Wrap(err)
	}
	n.running.Go(func() { // ends when either end closes, or with the node
		defer end()
		join(n.life, conn, screen)
	})
	return nodeapi.Empty{}, nil
}

// join passes on what either says to the other, until one of them or ctx ends.
func join(ctx context.Context, one, other net.Conn) {
	stop := context.AfterFunc(ctx, func() { _, _ = one.Close(), other.Close() })
	defer stop()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{one, other}, {other, one}} {
		both.Go(func() { // ends when either is closed
			_, _ = io.Copy(way[0], way[1]) // what ends it tells the other side by closing it
			_, _ = one.Close(), other.Close()
		})
	}
	both.Wait()
}

// maxShot is the most that a picture may take, encoded. The controller's bound is the same.
const maxShot = nodeapi.ScreenshotMax

// shootScreen sends a picture of the screen to a stream of the controller: its length in 8 bytes, then the PNG.
func (n *Node) shootScreen(ctx context.Context, c nodeapi.Command, req nodeapi.ScreenshotSpec) (nodeapi.Empty, error) {
	picture, err := n.cfg.Driver.Screenshot(ctx, c.VMID)
	if err != nil {
		return nodeapi.Empty{}, err
	}
	var b bytes.Buffer
	b.Write(make([]byte, 8))
	if err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&b, picture); err != nil {
		return nodeapi.Empty{}, nodeapi.ErrHypervisorRefused.WithMessage("the picture of the screen cannot be encoded").Wrap(err)
	}
	if b.Len()-8 > maxShot {
		return nodeapi.Empty{}, nodeapi.ErrHypervisorRefused.WithMessage("the picture of the screen takes more than %d bytes", maxShot)
	}
	binary.BigEndian.PutUint64(b.Bytes(), uint64(b.Len()-8)) //nolint:gosec // a length
	conn, err := n.cfg.Dialer.Upgrade(ctx, req.StreamURL)
	if err != nil {
		return nodeapi.Empty{}, nodeapi.ErrInvalidCommand.WithMessage("the picture's stream cannot be reached").Wrap(err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // a reader that reads no more holds up nobody
	if _, err := conn.Write(b.Bytes()); err != nil {
		return nodeapi.Empty{}, nodeapi.ErrNodeSilent.WithMessage("the picture of the screen did not come whole").Wrap(err)
	}
	return nodeapi.Empty{}, nil
}
