package service

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

const (
	// maxInterfaces fits, with the most volumes, into the places that a machine has on its PCI bus.
	maxInterfaces = 8
	// drawTries bounds how often addresses are drawn anew because another request was quicker.
	drawTries = 30
	maxGroups = 8
)

// interfaceSagas lists what is done to interfaces. All of them make it so from the row: definition first, then the guest that runs.
func (s *Service) interfaceSagas() []operation.Saga {
	saga := func(kind string) operation.Saga {
		return operation.Saga{Kind: kind, Deadline: 10 * time.Minute, OnEnd: s.store.EndInterface, Steps: []operation.Step{
			{Name: "network", Do: s.onVM(s.ensureNetworks), Undo: s.withoutPending(s.ensureNetworks)},
			{Name: "define", Do: s.onVM(s.define), Undo: s.withoutPending(s.define)},
			{Name: "interfaces", Do: s.onVM(s.setInterfaces), Undo: s.withoutPending(s.setInterfaces)}}}
	}
	update, detach := saga(store.KindInterfaceUpdate), saga(store.KindInterfaceDetach)
	for _, steps := range [][]operation.Step{update.Steps, detach.Steps} {
		for i := range steps {
			steps[i].Undo = nil // what is wanted stays wanted
		}
	}
	return []operation.Saga{saga(store.KindInterfaceAttach), update, detach}
}

// withoutPending carries a step out on the virtual machine without the interface that the operation was to plug in.
func (s *Service) withoutPending(step func(context.Context, *operation.Run, store.Record) error) func(context.Context, *operation.Run) error {
	return func(ctx context.Context, run *operation.Run) error {
		return s.onVM(func(ctx context.Context, run *operation.Run, r store.Record) error {
			id := run.Operation().ID
			r.Networks = slices.DeleteFunc(r.Networks, func(n vm.Interface) bool { return n.OperationID != nil && *n.OperationID == id })
			err := step(ctx, run, r)
			if errors.Is(err, nodeapi.ErrInterfaceHeld) {
				return nil // it is cut off, and goes with the next stop
			}
			return err
		})(ctx, run)
	}
}

func nicsOf(r store.Record) []nodeapi.NIC {
	nics := make([]nodeapi.NIC, len(r.Networks))
	for i, nic := range r.Networks {
		nics[i] = nodeapi.NIC{NetworkID: nic.NetworkID, MAC: nic.MAC, Down: nic.Link == vm.LinkDown}
	}
	return nics
}

func (s *Service) setInterfaces(ctx context.Context, _ *operation.Run, r store.Record) error {
	_, err := s.command(ctx, r, nodeapi.VerbSetInterfaces, nodeapi.InterfacesSpec{NICs: nicsOf(r)}, commandTimeout)
	return err
}

// randomMAC draws an address under QEMU's prefix with the low half of the second octet random too: 36 free bits.
func randomMAC() string {
	var b [5]byte
	_, _ = rand.Read(b[:]) // crypto/rand never fails
	return fmt.Sprintf("52:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4])
}

func interfaceInvalid(field, why, value string) error {
	return vm.ErrInterfaceInvalid.WithField(field, why, value)
}

// interfaces checks the interfaces that a new virtual machine is to have, or makes one on the tenant's default network. What is left open
// is drawn later.
func (s *Service) interfaces(ctx context.Context, requests []vm.InterfaceRequest) ([]vm.Interface, error) {
	if len(requests) == 0 {
		requests = []vm.InterfaceRequest{{}}
	}
	nics := make([]vm.Interface, len(requests))
	for i, req := range requests {
		var err error
		if nics[i], err = s.newInterface(ctx, req, fmt.Sprintf("body.networks[%d].", i)); err != nil {
			return nil, err
		}
	}
	return nics, nil
}

// networkFor reads a network of the caller's tenant that something can be connected to; the zero id stands for the default network, which
// everybody of the tenant may use.
func (s *Service) networkFor(ctx context.Context, id uuid.UUID) (store.NetworkRecord, error) {
	if id != uuid.Nil {
		if _, err := s.GetNetwork(ctx, id); err != nil {
			return store.NetworkRecord{}, named(ctx, err, vm.ErrNetworkNotFound, "network:read")
		}
	}
	var (
		n   store.NetworkRecord
		err error
	)
	if id == uuid.Nil {
		n, err = s.defaultNetwork(ctx)
	} else {
		n, err = s.store.GetNetwork(ctx, id)
	}
	if err == nil && (n.Status == vm.NetworkDeleting || n.TenantID != caller(ctx).TenantID) {
		err = vm.ErrNetworkNotFound
	}
	return n, err
}

func (s *Service) newInterface(ctx context.Context, req vm.InterfaceRequest, at string) (vm.Interface, error) {
	var nic vm.Interface
	n, err := s.networkFor(ctx, req.NetworkID)
	if err != nil {
		return nic, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nic, fmt.Errorf("make id: %w", err)
	}
	nic = vm.Interface{ID: id, NetworkID: n.ID, Link: vm.LinkUp, Addresses: []string{}}
	if req.Down {
		nic.Link = vm.LinkDown
	}
	if req.Bandwidth != (vm.Bandwidth{}) {
		nic.Bandwidth = &req.Bandwidth
	}
	if nic.MAC, err = checkMAC(req.MAC, at); err != nil {
		return nic, err
	}
	if nic.IPAddress, err = checkAddress(req.IPAddress, n, at); err != nil {
		return nic, err
	}
	nic.SecurityGroups, err = s.groupsFor(ctx, req.SecurityGroups, at)
	return nic, err
}

// checkMAC reads a MAC address that a client chose: of one host, and not all zero.
func checkMAC(text, at string) (string, error) {
	if text == "" {
		return "", nil
	}
	mac, err := net.ParseMAC(text)
	switch {
	case err != nil || len(mac) != 6:
		return "", interfaceInvalid(at+"mac", "must be a MAC address such as 52:54:00:12:34:56", text)
	case mac[0]&1 != 0 || slices.Equal(mac, make([]byte, 6)) || mac[0] == 0xfe:
		// libvirt gives devices of guests on the host addresses that begin with fe.
		return "", interfaceInvalid(at+"mac", "must be the address of one host, and not begin with fe", text)
	}
	return mac.String(), nil
}

// checkAddress reads a fixed address. On a bridge of the nodes it is the one that the interface may use; NovaCron does not give it out.
func checkAddress(text string, n store.NetworkRecord, at string) (string, error) {
	if text == "" {
		return "", nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || !addr.Is4() || addr.IsMulticast() || addr.IsUnspecified() || addr.IsLoopback() {
		return "", interfaceInvalid(at+"ip_address", "must be an IPv4 address that a host can have", text)
	}
	if n.CIDR == "" {
		return addr.String(), nil
	}
	prefix, err := netip.ParsePrefix(n.CIDR)
	if err != nil {
		return "", fmt.Errorf("read the range of network %s: %w", n.ID, err)
	}
	if !prefix.Contains(addr) || addr == prefix.Addr() || addr.String() == n.Gateway || addr.Compare(lastAddr(prefix)) > 0 {
		return "", interfaceInvalid(at+"ip_address", "must be an address of "+n.CIDR+" that a guest can have", text)
	}
	return addr.String(), nil
}

// groupsFor checks the groups of an interface; nil stands for the tenant's default group.
func (s *Service) groupsFor(ctx context.Context, ids []uuid.UUID, at string) ([]uuid.UUID, error) {
	if ids == nil {
		g, err := s.defaultGroup(ctx)
		return []uuid.UUID{g.ID}, err
	}
	if len(ids) > maxGroups {
		return nil, interfaceInvalid(at+"security_groups", fmt.Sprintf("an interface has at most %d groups", maxGroups), "")
	}
	list := []uuid.UUID{}
	for _, id := range ids {
		g, err := s.GetGroup(ctx, id)
		err = named(ctx, err, vm.ErrGroupNotFound, "security-group:read")
		if err == nil && g.TenantID != caller(ctx).TenantID {
			err = vm.ErrGroupNotFound
		}
		if err != nil {
			return nil, err
		}
		if !slices.Contains(list, id) {
			list = append(list, id)
		}
	}
	return list, nil
}

// draw gives every interface the addresses that it does not have yet: wanted is how they were asked for.
func (s *Service) draw(ctx context.Context, nics, wanted []vm.Interface) error {
	drawn := map[netip.Addr]bool{}
	for i := range nics {
		nics[i].MAC, nics[i].IPAddress = wanted[i].MAC, wanted[i].IPAddress
		if nics[i].MAC == "" {
			nics[i].MAC = randomMAC()
		}
		n, err := s.store.GetNetwork(ctx, nics[i].NetworkID)
		if err != nil {
			return err
		}
		if nics[i].IPAddress == "" && n.DHCP != nil {
			taken, err := s.store.NetworkAddresses(ctx, n.ID)
			if err != nil {
				return err
			}
			for _, other := range append(slices.Clone(nics[:i]), wanted[i+1:]...) {
				if a, err := netip.ParseAddr(other.IPAddress); err == nil {
					drawn[a] = true
				}
			}
			addr, ok := freeAddress(*n.DHCP, n.Gateway, func(a netip.Addr) bool { return taken[a] || drawn[a] })
			if !ok {
				return vm.ErrAddressesAreUsed.WithMessage("the network %q has no free address left", n.Name)
			}
			nics[i].IPAddress = addr.String()
		}
		nics[i].IPv6Address = eui64(n.IPv6CIDR, nics[i].MAC)
	}
	return nil
}

// drawAgain tells whether addresses that were drawn can be drawn anew, and gives the error for those that were asked for.
func drawAgain(wanted []vm.Interface, err error) (bool, error) {
	fixed := func(has func(vm.Interface) bool) bool { return slices.ContainsFunc(wanted, has) }
	switch {
	case errors.Is(err, store.ErrMACTaken) && fixed(func(n vm.Interface) bool { return n.MAC != "" }):
		return false, vm.ErrInterfaceMAC
	case errors.Is(err, vm.ErrAddressTaken) && fixed(func(n vm.Interface) bool { return n.IPAddress != "" }):
		return false, err
	case errors.Is(err, store.ErrMACTaken), errors.Is(err, vm.ErrAddressTaken):
		return true, nil
	}
	return false, err
}

// freeAddress draws a free address of a range: at random, so that requests at one time do not all draw the same.
func freeAddress(d vm.DHCP, gateway string, taken func(netip.Addr) bool) (netip.Addr, bool) {
	first, err := netip.ParseAddr(d.Start)
	last, lastErr := netip.ParseAddr(d.End)
	if err != nil || lastErr != nil {
		return netip.Addr{}, false
	}
	number := func(a netip.Addr) int64 { return new(big.Int).SetBytes(a.AsSlice()).Int64() }
	size := number(last) - number(first) + 1
	offset, err := rand.Int(rand.Reader, big.NewInt(max(size, 1)))
	if err != nil {
		return netip.Addr{}, false
	}
	for i := range size {
		n := number(first) + (offset.Int64()+i)%size
		a := netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		if a.String() != gateway && !taken(a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// eui64 is the address that a guest makes of an announced prefix and its MAC (RFC 4291, appendix A).
func eui64(cidr, mac string) string {
	prefix, err := netip.ParsePrefix(cidr)
	hw, macErr := net.ParseMAC(mac)
	if err != nil || macErr != nil {
		return ""
	}
	b := prefix.Addr().As16()
	copy(b[8:], []byte{hw[0] ^ 2, hw[1], hw[2], 0xff, 0xfe, hw[3], hw[4], hw[5]})
	return netip.AddrFrom16(b).String()
}

// Interfaces lists the interfaces of a virtual machine.
func (s *Service) Interfaces(ctx context.Context, vmID uuid.UUID) ([]vm.Interface, error) {
	r, err := s.record(ctx, vmID)
	return r.Networks, err
}

// GetInterface reads one.
func (s *Service) GetInterface(ctx context.Context, vmID, id uuid.UUID) (vm.Interface, error) {
	r, err := s.record(ctx, vmID)
	if err != nil {
		return vm.Interface{}, err
	}
	return find(r, id)
}

func find(r store.Record, id uuid.UUID) (vm.Interface, error) {
	for _, nic := range r.Networks {
		if nic.ID == id {
			return nic, nil
		}
	}
	return vm.Interface{}, vm.ErrInterfaceNotFound
}

// AttachInterface begins to plug an interface in.
func (s *Service) AttachInterface(ctx context.Context, vmID uuid.UUID, req vm.InterfaceRequest, key string) (operation.Operation, error) {
	if _, err := s.record(ctx, vmID); err != nil {
		return operation.Operation{}, err
	}
	nic, err := s.newInterface(ctx, req, "body.")
	if err != nil {
		return operation.Operation{}, err
	}
	wanted := []vm.Interface{nic}
	for range drawTries {
		drawn := []vm.Interface{nic}
		if err := s.draw(ctx, drawn, wanted); err != nil {
			return operation.Operation{}, err
		}
		op, err := s.edit(ctx, Request{VMID: vmID, IdempotencyKey: key}, store.KindInterfaceAttach, "vm:update", func(r store.Record) (store.Intent, error) {
			if len(r.Networks) >= maxInterfaces {
				return store.Intent{}, vm.ErrInterfaceTooMany.WithMessage("a virtual machine has at most %d interfaces", maxInterfaces)
			}
			return store.Intent{Input: struct{}{}, Then: s.store.Adding(drawn[0])}, nil
		})
		again, err := drawAgain(wanted, err)
		if !again {
			return op, err
		}
	}
	return operation.Operation{}, vm.ErrAddressesAreUsed
}

// UpdateInterfaceRequest says what to change; nil leaves as it is.
type UpdateInterfaceRequest struct {
	SecurityGroups *[]uuid.UUID
	Link           *string
	Bandwidth      *vm.Bandwidth
}

// UpdateInterface begins to change an interface, also of a running guest.
func (s *Service) UpdateInterface(ctx context.Context, vmID, id uuid.UUID, req UpdateInterfaceRequest) (operation.Operation, error) {
	r, err := s.record(ctx, vmID)
	if err != nil {
		return operation.Operation{}, err
	}
	if _, err := find(r, id); err != nil {
		return operation.Operation{}, err
	}
	var groups []uuid.UUID
	if req.SecurityGroups != nil {
		if groups, err = s.groupsFor(ctx, append([]uuid.UUID{}, *req.SecurityGroups...), "body."); err != nil {
			return operation.Operation{}, err
		}
	}
	return s.edit(ctx, Request{VMID: vmID}, store.KindInterfaceUpdate, "vm:update", func(r store.Record) (store.Intent, error) {
		nic, err := find(r, id)
		if err != nil {
			return store.Intent{}, err
		}
		if req.SecurityGroups != nil {
			nic.SecurityGroups = groups
		}
		if req.Link != nil {
			nic.Link = strings.ToLower(*req.Link)
		}
		if req.Bandwidth != nil {
			nic.Bandwidth = nil
			if *req.Bandwidth != (vm.Bandwidth{}) {
				nic.Bandwidth = req.Bandwidth
			}
		}
		return store.Intent{Input: struct{}{}, Then: s.store.Changing(nic)}, nil
	})
}

// DetachInterface begins to take an interface away. It carries nothing any more from then on, also where the guest holds on to it.
func (s *Service) DetachInterface(ctx context.Context, vmID, id uuid.UUID) (operation.Operation, error) {
	return s.edit(ctx, Request{VMID: vmID}, store.KindInterfaceDetach, "vm:update", func(r store.Record) (store.Intent, error) {
		if _, err := find(r, id); err != nil {
			return store.Intent{}, err
		}
		return store.Intent{Input: struct{}{}, Then: s.store.Removing(id)}, nil
	})
}
