package libvirt

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"net"
	"os"
	"strconv"

	"github.com/google/uuid"
	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// OpenScreen implements driver.Driver. libvirtd hands over a connection that it has made itself, so the socket need not be ours to open.
func (d *Driver) OpenScreen(ctx context.Context, vm uuid.UUID) (net.Conn, error) {
	file, err := ask(ctx, d, "open the screen", func(c *libvirt.Connect) (*os.File, error) {
		var file *os.File
		err := domain(c, vm, func(dom *libvirt.Domain) (err error) {
			if err := hasScreen(dom); err != nil {
				return err
			}
			file, err = dom.OpenGraphicsFD(0, libvirt.DOMAIN_OPEN_GRAPHICS_SKIPAUTH)
			return err
		})
		if err == nil && ctx.Err() != nil { // nobody waits for it any more
			err = errors.Join(ctx.Err(), file.Close())
		}
		return file, err
	})
	if err != nil {
		return nil, err
	}
	defer file.Close() // the connection below has its own
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("take the screen's connection over: %w", err)
	}
	return conn, nil
}

// hasScreen refuses guests that are off or that were started without a screen.
func hasScreen(dom *libvirt.Domain) error {
	state, _, err := dom.GetState()
	if err != nil {
		return err
	}
	if isOff(state) {
		return nodeapi.ErrHypervisorRefused.WithMessage("the guest is off")
	}
	text, err := dom.GetXMLDesc(0)
	if err != nil {
		return err
	}
	var def libvirtxml.Domain
	if err := def.Unmarshal(text); err != nil {
		return err
	}
	if def.Devices == nil || len(def.Devices.Graphics) == 0 || len(def.Devices.Videos) == 0 {
		return nodeapi.ErrNoScreen
	}
	return nil
}

// Bounds of a picture: more than any screen that QEMU makes by itself.
const (
	maxPicture = 64 << 20
	maxSide    = 8192
)

// Screenshot implements driver.Driver.
func (d *Driver) Screenshot(ctx context.Context, vm uuid.UUID) (image.Image, error) {
	data, err := ask(ctx, d, "take a picture of the screen", func(c *libvirt.Connect) ([]byte, error) {
		var data []byte
		err := domain(c, vm, func(dom *libvirt.Domain) (err error) {
			if err := hasScreen(dom); err != nil {
				return err
			}
			stream, err := c.NewStream(0)
			if err != nil {
				return err
			}
			defer func() { _ = stream.Free() }() // fails only on a nil pointer
			if _, err := dom.Screenshot(stream, 0, 0); err != nil {
				return err
			}
			data, err = io.ReadAll(io.LimitReader(received{stream}, maxPicture))
			if err != nil {
				_ = stream.Abort()
				return err
			}
			if len(data) == maxPicture {
				return errors.Join(errTooLarge, stream.Abort())
			}
			return stream.Finish()
		})
		return data, err
	})
	if err != nil {
		return nil, err
	}
	return decodePicture(data)
}

var errTooLarge = errors.New("the picture is too large")

// received reads what a stream of libvirt brings.
type received struct{ stream *libvirt.Stream }

func (r received) Read(p []byte) (int, error) { return r.stream.Recv(p) }

// decodePicture reads a picture in one of the forms that libvirt gives: PNG, or PPM with one byte a colour
// (https://netpbm.sourceforge.net/doc/ppm.html).
func decodePicture(data []byte) (image.Image, error) {
	if bytes.HasPrefix(data, []byte("\x89PNG")) {
		config, err := png.DecodeConfig(bytes.NewReader(data))
		if err != nil || config.Width > maxSide || config.Height > maxSide {
			return nil, errors.Join(errTooLarge, err)
		}
		return png.Decode(bytes.NewReader(data))
	}
	r := bufio.NewReader(bytes.NewReader(data))
	var head [4]string // magic number, width, height, largest value
	for i := range head {
		word, err := ppmWord(r)
		if err != nil {
			return nil, fmt.Errorf("read the head of a picture: %w", err)
		}
		head[i] = word
	}
	width, err := strconv.Atoi(head[1])
	height, heightErr := strconv.Atoi(head[2])
	if err != nil || heightErr != nil || head[0] != "P6" || head[3] != "255" || width < 1 || height < 1 || width > maxSide || height > maxSide {
		return nil, fmt.Errorf("a picture of the form %q cannot be read", head)
	}
	picture := image.NewNRGBA(image.Rect(0, 0, width, height))
	line := make([]byte, width*3)
	for y := range height {
		if _, err := io.ReadFull(r, line); err != nil {
			return nil, fmt.Errorf("read a picture: %w", err)
		}
		for x := range width {
			to := picture.Pix[y*picture.Stride+4*x:]
			copy(to, line[3*x:3*x+3])
			to[3] = 0xff
		}
	}
	return picture, nil
}

// ppmWord reads a word of the head and the one white space behind it.
func ppmWord(r *bufio.Reader) (string, error) {
	var word []byte
	for {
		b, err := r.ReadByte()
		switch {
		case err != nil:
			return "", err
		case b == '#' && len(word) == 0:
			if _, err := r.ReadString('\n'); err != nil {
				return "", err
			}
		case b != ' ' && b != '\n' && b != '\t' && b != '\r':
			if word = append(word, b); len(word) > 8 {
				return "", errTooLarge
			}
		case len(word) > 0:
			return string(word), nil
		}
	}
}
