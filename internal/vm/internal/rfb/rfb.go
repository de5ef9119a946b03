// Package rfb lets somebody watch a screen without touching it: it passes on what a viewer of the Remote Framebuffer Protocol says, except
// what reaches the guest. It knows the messages of RFC 6143 and of the extensions that viewers use with QEMU
// (https://github.com/rfbproto/rfbproto/blob/master/rfbproto.rst).
package rfb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Watcher passes on what a viewer may say who only watches. It is for one connection and one goroutine.
type Watcher struct {
	to      io.Writer
	pending []byte // of a message that has not come whole
	phase   phase
	drop    int64 // bytes of a dropped message that are still to come
	pass    int64 // bytes of a message that are still to come
}

type phase int

const (
	version phase = iota
	security
	clientInit
	messages
)

// Watch makes the Watcher of a connection that begins.
func Watch(to io.Writer) *Watcher { return &Watcher{to: to} }

// ErrUnknown says that the viewer said what cannot be told apart from touching the guest, or told where it ends.
var ErrUnknown = errors.New("the viewer sent a message of an unknown kind")

// The messages of viewers.
const (
	setPixelFormat    = 0
	setEncodings      = 2
	updateRequest     = 3
	keyEvent          = 4
	pointerEvent      = 5
	clientCutText     = 6
	continuousUpdates = 150
	clientFence       = 248
	xvp               = 250
	setDesktopSize    = 251
	qemu              = 255
)

// Write takes what the viewer says, in whatever pieces it comes.
func (w *Watcher) Write(p []byte) (int, error) {
	taken := len(p)
	for len(p) > 0 || len(w.pending) > 0 {
		if w.drop > 0 || w.pass > 0 {
			n := int(min(int64(len(p)), w.drop+w.pass))
			if n == 0 {
				return taken, nil
			}
			if w.pass > 0 {
				if _, err := w.to.Write(p[:n]); err != nil {
					return 0, err
				}
				w.pass -= int64(n)
			} else {
				w.drop -= int64(n)
			}
			p = p[n:]
			continue
		}
		if len(p) > 0 {
			w.pending = append(w.pending, p[0])
			p = p[1:]
		}
		done, err := w.step()
		if err != nil {
			return 0, err
		}
		if !done && len(p) == 0 {
			break
		}
	}
	return taken, nil
}

// step looks whether what is pending tells what to do with it, and does it.
func (w *Watcher) step() (done bool, err error) {
	b := w.pending
	size, next := 1, w.phase
	switch w.phase {
	case version:
		if size, next = 12, security; len(b) == size && string(b) == "RFB 003.003\n" { // the server alone chooses the security
			next = clientInit
		}
	case security:
		next = clientInit
	case clientInit:
		next = messages
	case messages:
		return w.message(b)
	}
	if len(b) < size {
		return false, nil
	}
	w.phase = next
	return true, w.keep()
}

func (w *Watcher) keep() error {
	_, err := w.to.Write(w.pending)
	w.pending = w.pending[:0]
	return err
}

// message tells apart what is kept and what is dropped, as soon as it is known how long it is.
func (w *Watcher) message(b []byte) (done bool, err error) {
	if len(b) == 0 {
		return false, nil
	}
	head, length, keep := 1, int64(0), false // bytes that are needed to know, bytes in all
	u16 := func(at int) int64 { return int64(binary.BigEndian.Uint16(b[at:])) }
	switch b[0] {
	case setPixelFormat:
		length, keep = 20, true
	case setEncodings:
		if head, keep = 4, true; len(b) >= head {
			length = 4 + 4*u16(2)
		}
	case updateRequest, continuousUpdates:
		length, keep = 10, true
	case keyEvent:
		length = 8
	case pointerEvent:
		length = 6
	case clientCutText: // a negative length announces the extended clipboard
		if head = 8; len(b) >= head {
			n := int64(int32(binary.BigEndian.Uint32(b[4:]))) //nolint:gosec // the sign is meant
			length = 8 + max(n, -n)
		}
	case clientFence:
		if head, keep = 9, true; len(b) >= head {
			length = 9 + int64(b[8])
		}
	case xvp:
		length = 4
	case setDesktopSize:
		if head = 8; len(b) >= head {
			length = 8 + 16*int64(b[6])
		}
	case qemu:
		if head = 2; len(b) < head {
			break
		}
		switch b[1] {
		case 0: // a key
			length = 12
		case 1: // sound
			if head, keep = 4, true; len(b) >= head {
				if length = 4; u16(2) == 2 {
					length = 10
				}
			}
		default:
			return false, fmt.Errorf("%w: QEMU's %d", ErrUnknown, b[1])
		}
	default:
		return false, fmt.Errorf("%w: %d", ErrUnknown, b[0])
	}
	if len(b) < head {
		return false, nil
	}
	left := length - int64(len(b))
	if keep {
		w.pass = left
		return true, w.keep()
	}
	w.pending, w.drop = w.pending[:0], left
	return true, nil
}
