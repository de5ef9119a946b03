package libvirt

import (
	"errors"
	"fmt"
	"strings"

	"libvirt.org/go/libvirt"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// isCode tells whether err is libvirt's error of one of the codes.
func isCode(err error, codes ...libvirt.ErrorNumber) bool {
	var e libvirt.Error
	if !errors.As(err, &e) {
		return false
	}
	for _, c := range codes {
		if e.Code == c {
			return true
		}
	}
	return false
}

// mapError turns an error of libvirt into one of nodeapi. Errors that are already ours pass.
func mapError(what string, err error, s *session) error {
	if err == nil {
		return nil
	}
	var own *errs.Error
	if errors.As(err, &own) {
		return err
	}
	cause := fmt.Errorf("%s: %w", what, err)
	var e libvirt.Error
	switch {
	case s != nil && s.isLost():
		return nodeapi.ErrHypervisor.Wrap(cause)
	case !errors.As(err, &e):
		return nodeapi.ErrHypervisorRefused.WithMessage("the hypervisor could not %s: %v", what, err).Wrap(cause)
	}
	switch e.Code {
	case libvirt.ERR_NO_DOMAIN, libvirt.ERR_NO_NETWORK:
		return nodeapi.ErrNotDefined.Wrap(cause)
	case libvirt.ERR_NO_CONNECT, libvirt.ERR_INVALID_CONN, libvirt.ERR_RPC:
		return nodeapi.ErrHypervisor.Wrap(cause)
	}
	// The transport's own errors come from these domains; an error that libvirtd sent names another.
	if e.Domain == libvirt.FROM_RPC || e.Domain == libvirt.FROM_REMOTE {
		return nodeapi.ErrHypervisor.Wrap(cause)
	}
	// libvirt gives no errno, only QEMU's or its own words for it.
	if strings.Contains(e.Message, "No space left on device") {
		return nodeapi.ErrStorageFull.Wrap(cause)
	}
	if strings.Contains(e.Message, "Network is already in use by interface") {
		return nodeapi.ErrNetworkConflict.WithMessage("the hypervisor could not %s: %s", what, e.Message).Wrap(cause)
	}
	refused := nodeapi.ErrHypervisorRefused.WithMessage("the hypervisor could not %s: %s", what, e.Message).Wrap(cause)
	// Another job holds the domain or the guest agent; the same request may succeed later.
	return refused.WithRetryable(e.Code == libvirt.ERR_OPERATION_TIMEOUT)
}
