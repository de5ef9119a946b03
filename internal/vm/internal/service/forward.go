package service

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// Host ports that are drawn where none is asked for: clear of what the kernel gives to outgoing connections (32768 and above, ip(7),
// ip_local_port_range) and of most services.
const (
	firstForward = 30000
	lastForward  = 32767
	// firstUnprivileged is the first port that is not kept for the host's own services.
	firstUnprivileged = 1024
)

// ForwardRequest asks for a port forward.
type ForwardRequest struct {
	VMID        uuid.UUID
	InterfaceID *uuid.UUID // nil: the first on a NAT network
	Protocol    string
	HostPort    int // 0: a free one
	GuestPort   int
	SourceCIDR  string
}

func forwardInvalid(field, why, value string) error {
	return vm.ErrForwardInvalid.WithField(field, why, value)
}

// CreateForward opens a port of the node to a guest; it works when this comes back.
func (s *Service) CreateForward(ctx context.Context, req ForwardRequest) (vm.PortForward, error) {
	r, err := s.record(ctx, req.VMID)
	if err == nil {
		err = permitted(ctx, r.TenantID, r.OwnerID, "vm:update", "vm:read", vm.ErrNotFound)
	}
	if err != nil {
		return vm.PortForward{}, err
	}
	p := caller(ctx)
	if req.HostPort > 0 && req.HostPort < firstUnprivileged && !p.AllowsPlatform("network:provider") {
		return vm.PortForward{}, forwardInvalid("body.host_port", fmt.Sprintf("must be %d or more; those below are for the platform's administrators", firstUnprivileged), fmt.Sprint(req.HostPort))
	}
	if req.SourceCIDR != "" {
		prefix, err := netip.ParsePrefix(req.SourceCIDR)
		if err != nil || !prefix.Addr().Is4() || prefix != prefix.Masked() {
			return vm.PortForward{}, forwardInvalid("body.source_cidr", "must be an IPv4 range that begins at its network address, such as 192.0.2.0/24", req.SourceCIDR)
		}
	}
	nic, err := s.forwardTarget(ctx, r, req.InterfaceID)
	if err != nil {
		return vm.PortForward{}, err
	}
	listening, err := s.listening(ctx, r, req.Protocol)
	if err != nil {
		return vm.PortForward{}, err
	}
	if slices.Contains(listening, req.HostPort) {
		return vm.PortForward{}, vm.ErrForwardListens.WithMessage("a program of the node listens on %s port %d", req.Protocol, req.HostPort)
	}
	for range 50 {
		f := store.ForwardRecord{MAC: nic.MAC, PortForward: vm.PortForward{VMID: r.ID, Protocol: req.Protocol, HostPort: req.HostPort,
			GuestPort: req.GuestPort, SourceCIDR: req.SourceCIDR, TenantID: r.TenantID, OwnerID: p.UserID}}
		if f.ID, err = uuid.NewV7(); err != nil {
			return vm.PortForward{}, fmt.Errorf("make id: %w", err)
		}
		if f.HostPort == 0 {
			if f.HostPort = firstForward + rand.IntN(lastForward-firstForward+1); slices.Contains(listening, f.HostPort) { //nolint:gosec // not a secret
				continue
			}
		}
		f, err = s.store.CreateForward(ctx, f)
		if errors.Is(err, vm.ErrForwardTaken) && req.HostPort == 0 {
			continue
		}
		if err != nil {
			return vm.PortForward{}, err
		}
		s.rulesChanged(ctx)
		f.InterfaceID = nic.ID
		return f.PortForward, nil
	}
	return vm.PortForward{}, vm.ErrForwardTaken
}

// forwardTarget finds the interface that a port can lead to.
func (s *Service) forwardTarget(ctx context.Context, r store.Record, id *uuid.UUID) (vm.Interface, error) {
	for _, nic := range r.Networks {
		if id != nil && nic.ID != *id {
			continue
		}
		n, err := s.store.GetNetwork(ctx, nic.NetworkID)
		if err != nil {
			return vm.Interface{}, err
		}
		if n.Mode == vm.NetworkNAT && nic.IPAddress != "" {
			return nic, nil
		}
		if id != nil {
			return vm.Interface{}, vm.ErrForwardTarget
		}
	}
	if id != nil {
		return vm.Interface{}, vm.ErrInterfaceNotFound
	}
	return vm.Interface{}, vm.ErrForwardTarget
}

// listening asks the node on which ports its own programs listen: a forward would take their connections away.
func (s *Service) listening(ctx context.Context, r store.Record, protocol string) ([]int, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	l, err := nodeapi.Do[nodeapi.Listening](ctx, s.nodes, nodeapi.Target{NodeID: *r.NodeID}, nodeapi.VerbListening, nodeapi.Empty{})
	if protocol == "udp" {
		return l.UDP, err
	}
	return l.TCP, err
}

// GetForward reads a port forward that the caller may know.
func (s *Service) GetForward(ctx context.Context, id uuid.UUID) (vm.PortForward, error) {
	f, err := s.store.GetForward(ctx, id)
	if err == nil && !readable(ctx, f.TenantID, f.OwnerID, "port-forward:read") {
		err = vm.ErrForwardNotFound
	}
	if err != nil {
		return vm.PortForward{}, err
	}
	list, err := s.withInterfaces(ctx, []store.ForwardRecord{f})
	if err != nil {
		return vm.PortForward{}, err
	}
	return list[0], nil
}

// ListForwards lists the port forwards of the caller's tenant.
func (s *Service) ListForwards(ctx context.Context, vmID *uuid.UUID, after *httpx.Cursor, limit int) ([]vm.PortForward, error) {
	before, beforeID := position(after)
	p := caller(ctx)
	list, err := s.store.ListForwards(ctx, p.TenantID, p.OwnerFilter("port-forward:read"), vmID, before, beforeID, limit)
	if err != nil {
		return nil, err
	}
	return s.withInterfaces(ctx, list)
}

// withInterfaces names the interfaces, which the rows know by their MAC addresses.
func (s *Service) withInterfaces(ctx context.Context, list []store.ForwardRecord) ([]vm.PortForward, error) {
	shown := make([]vm.PortForward, len(list))
	machines := map[uuid.UUID][]vm.Interface{}
	for i, f := range list {
		nics, ok := machines[f.VMID]
		if !ok {
			r, err := s.store.GetVM(ctx, f.VMID)
			if err != nil && !errors.Is(err, vm.ErrNotFound) {
				return nil, err
			}
			nics = r.Networks
			machines[f.VMID] = nics
		}
		for _, nic := range nics {
			if nic.MAC == f.MAC {
				f.InterfaceID = nic.ID
			}
		}
		shown[i] = f.PortForward
	}
	return shown, nil
}

// DeleteForward closes a port, also for connections that are open.
func (s *Service) DeleteForward(ctx context.Context, id uuid.UUID) error {
	f, err := s.store.GetForward(ctx, id)
	if err == nil {
		err = permitted(ctx, f.TenantID, f.OwnerID, "port-forward:delete", "port-forward:read", vm.ErrForwardNotFound)
	}
	if err != nil {
		return err
	}
	if err := s.store.DeleteForward(ctx, id); err != nil {
		return err
	}
	s.rulesChanged(ctx)
	return nil
}
