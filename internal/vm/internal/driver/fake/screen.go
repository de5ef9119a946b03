package fake

import (
	"bytes"
	"context"
	"encoding/binary"
	"image"
	"image/color"
	"io"
	"net"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// The fake's screen: one colour, and the number of keys that were pressed in its first pixel.
const (
	screenWidth  = 64
	screenHeight = 48
)

// WithoutScreen makes a guest one that was started before it had a screen.
func (d *Driver) WithoutScreen(vm uuid.UUID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.domains[vm].noScreen = true
}

// Keys tells how many keys viewers of a guest's screen have pressed.
func (d *Driver) Keys(vm uuid.UUID) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.domains[vm].keys
}

func (d *Driver) screen(ctx context.Context, call string, vm uuid.UUID) error {
	return d.ask(ctx, call, vm, func(dom *domain) error {
		switch {
		case !isOn(dom):
			return nodeapi.ErrHypervisorRefused
		case dom.noScreen:
			return nodeapi.ErrNoScreen
		}
		return nil
	})
}

// Screenshot implements driver.Driver.
func (d *Driver) Screenshot(ctx context.Context, vm uuid.UUID) (image.Image, error) {
	if err := d.screen(ctx, "Screenshot", vm); err != nil {
		return nil, err
	}
	picture := image.NewNRGBA(image.Rect(0, 0, screenWidth, screenHeight))
	for i := range screenWidth * screenHeight {
		picture.Set(i%screenWidth, i/screenWidth, color.NRGBA{R: 0x20, G: 0x40, B: 0x60, A: 0xff})
	}
	return picture, nil
}

// OpenScreen implements driver.Driver. Behind it is a small server of RFB 3.8 (RFC 6143).
func (d *Driver) OpenScreen(ctx context.Context, vm uuid.UUID) (net.Conn, error) {
	if err := d.screen(ctx, "OpenScreen", vm); err != nil {
		return nil, err
	}
	here, there := net.Pipe()
	go func() { // ends when the connection is closed
		defer there.Close()
		_ = d.serveScreen(there, vm) // the viewer has left
	}()
	return here, nil
}

func (d *Driver) serveScreen(c net.Conn, vm uuid.UUID) error {
	version := make([]byte, 12)
	steps := []func() error{
		func() error { _, err := c.Write([]byte("RFB 003.008\n")); return err },
		func() error { _, err := io.ReadFull(c, version); return err },
		func() error { _, err := c.Write([]byte{1, 1}); return err }, // one kind of security: none
		func() error { _, err := io.ReadFull(c, version[:1]); return err },
		func() error { _, err := c.Write([]byte{0, 0, 0, 0}); return err }, // fine
		func() error { _, err := io.ReadFull(c, version[:1]); return err }, // ClientInit
		func() error {
			var b bytes.Buffer
			for _, v := range []any{uint16(screenWidth), uint16(screenHeight), [4]byte{32, 24, 0, 1}, [3]uint16{255, 255, 255}, [3]byte{16, 8, 0}, [3]byte{}, uint32(4)} {
				_ = binary.Write(&b, binary.BigEndian, v) // a buffer never fails
			}
			b.WriteString("fake")
			_, err := c.Write(b.Bytes())
			return err
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	sizes := map[byte]int{0: 19, 3: 9, 4: 7, 5: 5, 6: 7}
	for {
		var kind [1]byte
		if _, err := io.ReadFull(c, kind[:]); err != nil {
			return err
		}
		rest := make([]byte, max(sizes[kind[0]], 3))
		if _, err := io.ReadFull(c, rest); err != nil {
			return err
		}
		switch kind[0] {
		case 2: // SetEncodings
			if _, err := io.CopyN(io.Discard, c, 4*int64(binary.BigEndian.Uint16(rest[1:]))); err != nil {
				return err
			}
		case 6: // ClientCutText
			if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(rest[3:]))); err != nil {
				return err
			}
		case 4:
			d.mu.Lock()
			if dom := d.domains[vm]; dom != nil {
				dom.keys++
			}
			d.mu.Unlock()
		case 3: // a whole picture, raw
			head := []byte{0, 0, 0, 1, 0, 0, 0, 0, 0, screenWidth, 0, screenHeight, 0, 0, 0, 0}
			if _, err := c.Write(append(head, bytes.Repeat([]byte{0x60, 0x40, 0x20, 0}, screenWidth*screenHeight)...)); err != nil {
				return err
			}
		}
	}
}
