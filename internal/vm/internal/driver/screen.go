package driver

import (
	"context"
	"image"
	"net"

	"github.com/google/uuid"
)

// Screens shows the screens of guests.
type Screens interface {
	// OpenScreen connects to the VNC server of a running domain (RFC 6143), beside those who are connected already. Nobody else than
	// who may open the hypervisor's own sockets gets there, so it asks for no password.
	OpenScreen(ctx context.Context, vm uuid.UUID) (net.Conn, error)
	// Screenshot takes a picture of the screen of a running domain.
	Screenshot(ctx context.Context, vm uuid.UUID) (image.Image, error)
}
