package service

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/rfb"
	"github.com/novacron/novacron/internal/vm/internal/stream"
)

// screenshotTimeout is how long a picture of a screen may take.
const screenshotTimeout = 30 * time.Second

// Screenshot gives a picture of the screen of a running virtual machine, as PNG.
func (s *Service) Screenshot(ctx context.Context, id uuid.UUID) ([]byte, error) {
	r, err := s.recordTo(ctx, id, "vm:console")
	if err != nil {
		return nil, err
	}
	if r.State != vm.StateRunning && r.State != vm.StatePaused {
		return nil, wrongState(r, "looked at", "running or paused")
	}
	ctx, cancel := context.WithTimeout(ctx, screenshotTimeout)
	defer cancel()
	sent := make(chan []byte, 1)
	url, revoke := s.streams.Offer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		conn, err := stream.Accept(w, req)
		if err != nil {
			s.log.WarnContext(ctx, "node's picture stream could not be taken over", "vm_id", id, "error", err)
			return
		}
		defer conn.Close()
		picture, err := readPicture(ctx, conn)
		if err != nil {
			s.log.WarnContext(ctx, "a picture of a screen did not come whole", "vm_id", id, "error", err)
		}
		sent <- picture
	}), true, screenshotTimeout)
	defer revoke()
	_, err = nodeapi.Do[nodeapi.Empty](ctx, s.nodes, nodeapi.Target{NodeID: *r.NodeID, VMID: id}, nodeapi.VerbScreenshot, nodeapi.ScreenshotSpec{StreamURL: url})
	if err != nil {
		return nil, err
	}
	select {
	case picture := <-sent:
		if picture == nil {
			err = nodeapi.ErrNodeSilent.WithMessage("the picture of the screen did not come whole")
		}
		return picture, err
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the picture of the screen: %w", ctx.Err())
	}
}

func readPicture(ctx context.Context, conn net.Conn) ([]byte, error) {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	var size uint64
	if err := binary.Read(conn, binary.BigEndian, &size); err != nil {
		return nil, err
	}
	if size > nodeapi.ScreenshotMax {
		return nil, errors.New("the picture is too large")
	}
	picture := make([]byte, size)
	_, err := io.ReadFull(conn, picture)
	if err != nil {
		return nil, err
	}
	return picture, nil
}

// watchOnly keeps what a viewer says from the guest.
func watchOnly(console net.Conn, kind string) net.Conn {
	if kind == nodeapi.ConsoleVNC {
		return &watched{Conn: console, to: rfb.Watch(console)}
	}
	return &watched{Conn: console, to: io.Discard}
}

// watched is a console whose viewer only watches.
type watched struct {
	net.Conn
	to io.Writer
}

// Write implements io.Writer.
func (w *watched) Write(p []byte) (int, error) { return w.to.Write(p) }
