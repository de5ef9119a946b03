package service

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/store"
	"github.com/novacron/novacron/internal/vm/internal/vmdb"
)

func (s *Service) networkSagas() []operation.Saga {
	ensure := operation.Step{Name: "ensure", Do: s.ensureNetwork, Undo: s.removeNetwork}
	return []operation.Saga{
		{Kind: store.KindNetworkCreate, Deadline: 10 * time.Minute, OnEnd: s.store.EndNetwork, Steps: []operation.Step{ensure}},
		{Kind: store.KindNetworkUpdate, Deadline: 10 * time.Minute, OnEnd: s.store.EndNetwork, Steps: []operation.Step{
			{Name: "ensure", Do: s.ensureNetwork, Undo: s.networkAsBefore}}},
		{Kind: store.KindNetworkDelete, Deadline: 24 * time.Hour, OnEnd: s.store.EndNetwork, PointOfNoReturn: "remove",
			Steps: []operation.Step{{Name: "remove", Do: s.removeNetwork}}},
	}
}

// ensureNetwork has the network on every node, and protected there before anything can be connected to it.
func (s *Service) ensureNetwork(ctx context.Context, run *operation.Run) error {
	n, err := s.store.GetNetwork(ctx, run.Operation().TargetID)
	if err != nil {
		return err
	}
	if err := s.SyncPolicies(ctx); err != nil {
		return err
	}
	return s.onReadyNodes(ctx, nodeapi.VerbEnsureNetwork, n.Spec())
}

// networkAsBefore takes a change of a network back. A node that refuses what was there before is left alone: it is asked again before it runs a
// virtual machine on the network.
func (s *Service) networkAsBefore(ctx context.Context, run *operation.Run) error {
	var before store.NetworkBefore
	if err := run.Input(&before); err != nil {
		return err
	}
	if err := s.store.RestoreNetwork(ctx, run.Operation().TargetID, before); err != nil {
		return err
	}
	err := s.ensureNetwork(ctx, run)
	if err != nil && !errs.Retryable(err) {
		s.log.WarnContext(ctx, "network not as before on every node", "network_id", run.Operation().TargetID, "error", err)
		return nil
	}
	return err
}

// removeNetwork works also where the row has gone; what was made for its uplink is gone then too.
func (s *Service) removeNetwork(ctx context.Context, run *operation.Run) error {
	ref := nodeapi.NetworkRef{ID: run.Operation().TargetID}
	switch n, err := s.store.GetNetwork(ctx, ref.ID); {
	case err == nil && n.VLAN != 0:
		ref.Bridge = n.Bridge
	case err != nil && !errors.Is(err, vm.ErrNetworkNotFound):
		return err
	}
	if err := s.onReadyNodes(ctx, nodeapi.VerbRemoveNetwork, ref); err != nil {
		return err
	}
	return s.SyncPolicies(ctx)
}

// onReadyNodes sends a verb to every node that answers the scheduler. A node that is away gets the network when it next runs a
// virtual machine on it.
func (s *Service) onReadyNodes(ctx context.Context, verb nodeapi.Verb, req any) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	nodes, err := s.placer.ListNodes(ctx, scheduler.ListNodesRequest{Limit: httpx.MaxLimit})
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	for _, node := range nodes.Nodes {
		if node.State != scheduler.NodeReady {
			continue
		}
		if _, err := nodeapi.Do[nodeapi.Empty](ctx, s.nodes, nodeapi.Target{NodeID: node.ID}, verb, req); err != nil {
			return err
		}
	}
	return nil
}

// CreateNetworkRequest says what to create. Gateways are the first addresses of the ranges.
type CreateNetworkRequest struct {
	Name           string
	Mode           vm.NetworkMode
	CIDR           string // "": the next free /24 of the pool; none in mode bridge
	DHCP           *vm.DHCP
	IPv6           bool   // give it an IPv6 range also where none is named
	IPv6CIDR       string // "": with IPv6 a random one of the unique local ones
	Uplink         string
	VLAN           int
	IdempotencyKey string
}

// CreateNetwork begins to make a network and answers its row with the operation that makes it active.
func (s *Service) CreateNetwork(ctx context.Context, req CreateNetworkRequest) (vm.Network, operation.Operation, error) {
	p := caller(ctx)
	if req.IdempotencyKey != "" {
		op, ok, err := s.ops.FindByIdempotencyKey(ctx, p.UserID, store.KindNetworkCreate, req.IdempotencyKey)
		if err != nil || ok {
			return vm.Network{ID: op.TargetID}, op, err
		}
	}
	if !nameRule.MatchString(req.Name) {
		return vm.Network{}, operation.Operation{}, vm.ErrNetworkInvalid.WithField("body.name", "must be an RFC 1123 label: 1 to 63 of a-z, 0-9 and '-', not at either end", req.Name)
	}
	if provides := req.Mode == vm.NetworkRouted || req.Mode == vm.NetworkBridge; provides && !p.AllowsPlatform("network:provider") {
		return vm.Network{}, operation.Operation{}, vm.ErrNetworkProvider
	}
	n, err := s.createNetwork(ctx, req, false)
	if err != nil {
		return vm.Network{}, operation.Operation{}, err
	}
	op, err := s.ops.Get(ctx, *n.OperationID)
	return n.Network, op, err
}

// createNetwork writes the row of a network and its operation. Without a range of its own it takes the next free one, drawn anew
// when another network was quicker.
func (s *Service) createNetwork(ctx context.Context, req CreateNetworkRequest, isDefault bool) (store.NetworkRecord, error) {
	for range 20 {
		plan, err := s.planNetwork(ctx, req)
		if err != nil {
			return store.NetworkRecord{}, err
		}
		p := caller(ctx)
		plan.TenantID, plan.OwnerID, plan.IsDefault = p.TenantID, p.UserID, isDefault
		opID, err := uuid.NewV7()
		if err != nil {
			return store.NetworkRecord{}, fmt.Errorf("make operation id: %w", err)
		}
		n, err := s.store.CreateNetwork(ctx, plan, operation.New{ID: opID, Kind: store.KindNetworkCreate, TargetID: plan.ID,
			TenantID: plan.TenantID, RequestedBy: plan.OwnerID, Generation: 1, Input: struct{}{}, IdempotencyKey: req.IdempotencyKey})
		if errors.Is(err, vm.ErrNetworkOverlap) && req.CIDR == "" {
			continue
		}
		return n, err
	}
	return store.NetworkRecord{}, vm.ErrNoAddressRange
}

func (s *Service) planNetwork(ctx context.Context, req CreateNetworkRequest) (vmdb.NetworkInsertParams, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return vmdb.NetworkInsertParams{}, fmt.Errorf("make id: %w", err)
	}
	text := id.String()
	plan := vmdb.NetworkInsertParams{ID: id, Name: req.Name, Mode: string(req.Mode),
		Bridge: "nova" + text[len(text)-10:]} // interface names have 15 characters at most
	if req.Mode == vm.NetworkBridge {
		plan.Uplink, plan.Vlan = req.Uplink, int32(req.VLAN)
		return plan, checkBridge(req)
	}
	if req.Uplink != "" || req.VLAN != 0 {
		return plan, vm.ErrNetworkInvalid.WithField("body.uplink", "only networks of mode bridge have an uplink or a VLAN", req.Uplink)
	}
	routed, err := s.routedRanges(ctx)
	if err != nil {
		return plan, err
	}
	var prefix netip.Prefix
	if req.CIDR == "" {
		prefix, err = s.freePrefix(ctx, routed)
	} else if prefix, err = parsePrefix(req.CIDR, req.Mode); err == nil {
		err = overlap(prefix, routed)
	}
	if err != nil {
		return plan, err
	}
	gateway := prefix.Addr().Next()
	first, last := gateway.Next(), lastAddr(prefix)
	if req.DHCP != nil {
		if first, last, err = parseRange(*req.DHCP, prefix, gateway); err != nil {
			return plan, err
		}
	}
	plan.Cidr, plan.Gateway, plan.DhcpStart, plan.DhcpEnd = &prefix, &gateway, &first, &last
	if err := planIPv6(req, routed, &plan); err != nil || req.IPv6CIDR == "" {
		return plan, err
	}
	taken, err := s.store.NetworkCIDRs(ctx)
	if err != nil {
		return plan, err
	}
	for _, t := range taken {
		if t.Overlaps(*plan.Cidr6) {
			return plan, vm.ErrNetworkOverlap
		}
	}
	return plan, nil
}

// uplinkRule is what names of devices are made of, see dev_valid_name in the kernel; stricter, to be safe in every program's arguments.
var uplinkRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$`)

// checkBridge checks what a network on a bridge of the nodes may have.
func checkBridge(req CreateNetworkRequest) error {
	switch {
	case !uplinkRule.MatchString(req.Uplink):
		return vm.ErrNetworkInvalid.WithField("body.uplink", "must name a device of the nodes: 1 to 15 letters, digits, '.', '_' and '-'", req.Uplink)
	case strings.HasPrefix(req.Uplink, "nova") || strings.HasPrefix(req.Uplink, "nv"):
		return vm.ErrNetworkInvalid.WithField("body.uplink", "must not be a device of NovaCron's own", req.Uplink)
	case req.CIDR != "" || req.DHCP != nil || req.IPv6 || req.IPv6CIDR != "":
		return vm.ErrNetworkInvalid.WithField("body.cidr", "the outside of a bridge gives the addresses: none can be named", req.CIDR)
	}
	return nil
}

// planIPv6 gives the network a /64. Without one of its own it draws a unique local one: 40 random bits and a random subnet (RFC 4193, 3.2).
func planIPv6(req CreateNetworkRequest, routed []netip.Prefix, plan *vmdb.NetworkInsertParams) error {
	if !req.IPv6 && req.IPv6CIDR == "" {
		return nil
	}
	prefix, err := netip.ParsePrefix(req.IPv6CIDR)
	if req.IPv6CIDR == "" {
		b := [16]byte{0xfd}
		_, _ = rand.Read(b[1:8]) // crypto/rand never fails
		prefix, err = netip.PrefixFrom(netip.AddrFrom16(b), 64), nil
	}
	invalid := func(why string) error {
		return vm.ErrNetworkInvalid.WithField("body.ipv6_cidr", why, req.IPv6CIDR)
	}
	switch {
	case err != nil || !prefix.Addr().Is6() || prefix.Addr().Is4In6() || prefix.Bits() != 64:
		return invalid("must be an IPv6 range of 64 bits, such as fd12:3456:789a:1::/64")
	case prefix != prefix.Masked():
		return invalid("must begin at its network address " + prefix.Masked().String())
	case !prefix.Addr().IsGlobalUnicast():
		return invalid("must be a range that hosts can have")
	case req.Mode != vm.NetworkRouted && !prefix.Addr().IsPrivate():
		return invalid("must be unique local (fd00::/8); only routed networks have others")
	}
	if err := overlap(prefix, routed); err != nil {
		return err
	}
	gateway := prefix.Addr().Next()
	plan.Cidr6, plan.Gateway6 = &prefix, &gateway
	return nil
}

func parsePrefix(cidr string, mode vm.NetworkMode) (netip.Prefix, error) {
	invalid := func(why string) (netip.Prefix, error) {
		return netip.Prefix{}, vm.ErrNetworkInvalid.WithField("body.cidr", why, cidr)
	}
	prefix, err := netip.ParsePrefix(cidr)
	switch {
	case err != nil || !prefix.Addr().Is4():
		return invalid("must be an IPv4 range such as 10.100.0.0/24")
	case prefix != prefix.Masked():
		return invalid("must begin at its network address " + prefix.Masked().String())
	case prefix.Bits() < 16 || prefix.Bits() > 29:
		return invalid("must be from /16 to /29")
	case mode == vm.NetworkRouted && prefix.Addr().IsGlobalUnicast(): // an administrator's, who knows what is routed to the nodes
	case !prefix.Addr().IsPrivate():
		return invalid("must lie in a private range: 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16")
	}
	return prefix, nil
}

func parseRange(d vm.DHCP, prefix netip.Prefix, gateway netip.Addr) (first, last netip.Addr, err error) {
	for _, end := range []struct {
		field, text string
		into        *netip.Addr
	}{{"start", d.Start, &first}, {"end", d.End, &last}} {
		*end.into, err = netip.ParseAddr(end.text)
		if err != nil || !prefix.Contains(*end.into) || *end.into == gateway || *end.into == prefix.Addr() || end.into.Compare(lastAddr(prefix)) > 0 {
			return first, last, vm.ErrNetworkInvalid.WithField("body.dhcp."+end.field, "must be an address of the range that a guest can have", end.text)
		}
	}
	if last.Less(first) {
		return first, last, vm.ErrNetworkInvalid.WithField("body.dhcp.end", "must not come before start", d.End)
	}
	return first, last, nil
}

// lastAddr is the last address of a range that a guest can have: the one before the broadcast address.
func lastAddr(prefix netip.Prefix) netip.Addr {
	b := prefix.Addr().As4()
	value := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	value |= 1<<(32-prefix.Bits()) - 1
	value--
	return netip.AddrFrom4([4]byte{byte(value >> 24), byte(value >> 16), byte(value >> 8), byte(value)})
}

// freePrefix draws the first /24 of the pool that no network has and that no node has a route to.
func (s *Service) freePrefix(ctx context.Context, routed []netip.Prefix) (netip.Prefix, error) {
	pool, err := netip.ParsePrefix(s.cfg.NetworkPool)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("read network pool: %w", err)
	}
	taken, err := s.store.NetworkCIDRs(ctx)
	if err != nil {
		return netip.Prefix{}, err
	}
	for candidate := netip.PrefixFrom(pool.Addr(), 24); pool.Contains(candidate.Addr()); candidate = nextPrefix(candidate) {
		free := overlap(candidate, routed) == nil
		for _, t := range taken {
			free = free && !t.Overlaps(candidate)
		}
		if free {
			return candidate, nil
		}
	}
	return netip.Prefix{}, vm.ErrNoAddressRange
}

// routedRanges asks the nodes that answer which ranges, of IPv4 and IPv6, their hosts use already.
func (s *Service) routedRanges(ctx context.Context) ([]netip.Prefix, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	nodes, err := s.placer.ListNodes(ctx, scheduler.ListNodesRequest{Limit: httpx.MaxLimit})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	var list []netip.Prefix
	for _, node := range nodes.Nodes {
		if node.State != scheduler.NodeReady {
			continue
		}
		answer, err := nodeapi.Do[nodeapi.Ranges](ctx, s.nodes, nodeapi.Target{NodeID: node.ID}, nodeapi.VerbRanges, nodeapi.Empty{})
		if err != nil {
			return nil, err
		}
		for _, r := range answer.Ranges {
			prefix, err := netip.ParsePrefix(r.CIDR)
			if err != nil {
				return nil, fmt.Errorf("read ranges of node %s: %w", node.Name, err)
			}
			list = append(list, prefix)
		}
	}
	return list, nil
}

// overlap refuses a range that a host has a route to: guests and host would not reach each other's.
func overlap(prefix netip.Prefix, routed []netip.Prefix) error {
	for _, r := range routed {
		if r.Overlaps(prefix) {
			return vm.ErrNetworkOverlap.WithMessage("the address range %s overlaps with %s, which a node uses already", prefix, r).
				WithAction("Choose another range; 'ip route' on the nodes shows those in use.")
		}
	}
	return nil
}

func nextPrefix(p netip.Prefix) netip.Prefix {
	b := p.Addr().As4()
	for i := 2; i >= 0; i-- {
		b[i]++
		if b[i] != 0 {
			break
		}
	}
	return netip.PrefixFrom(netip.AddrFrom4(b), 24)
}

// defaultNetwork answers the tenant's default network, which is made when the tenant first needs it.
func (s *Service) defaultNetwork(ctx context.Context) (store.NetworkRecord, error) {
	n, err := s.store.DefaultNetwork(ctx, caller(ctx).TenantID)
	if !errors.Is(err, vm.ErrNetworkNotFound) {
		return n, err
	}
	n, err = s.createNetwork(ctx, CreateNetworkRequest{Name: "default", Mode: vm.NetworkNAT}, true)
	if errors.Is(err, vm.ErrNetworkTaken) { // another request was quicker
		return s.store.DefaultNetwork(ctx, caller(ctx).TenantID)
	}
	return n, err
}

// GetNetwork reads a network that the caller may know.
func (s *Service) GetNetwork(ctx context.Context, id uuid.UUID) (vm.Network, error) {
	n, err := s.store.GetNetwork(ctx, id)
	if err != nil {
		return vm.Network{}, err
	}
	if !readable(ctx, n.TenantID, n.OwnerID, "network:read") {
		return vm.Network{}, vm.ErrNetworkNotFound
	}
	return n.Network, nil
}

// ListNetworks lists the networks of the caller's tenant.
func (s *Service) ListNetworks(ctx context.Context, name string, after *httpx.Cursor, limit int) ([]vm.Network, error) {
	before, beforeID := position(after)
	p := caller(ctx)
	return s.store.ListNetworks(ctx, p.TenantID, p.OwnerFilter("network:read"), name, before, beforeID, limit)
}

// UpdateNetworkRequest says what to change; nil leaves as it is.
type UpdateNetworkRequest struct {
	Name    *string
	DHCP    *vm.DHCP
	Version *int64 // that the caller has seen
}

// UpdateNetwork begins to change a network, while its guests run on.
func (s *Service) UpdateNetwork(ctx context.Context, id uuid.UUID, req UpdateNetworkRequest) (operation.Operation, error) {
	n, err := s.store.GetNetwork(ctx, id)
	if err == nil {
		err = permitted(ctx, n.TenantID, n.OwnerID, "network:update", "network:read", vm.ErrNetworkNotFound)
	}
	if err != nil {
		return operation.Operation{}, err
	}
	if req.Name != nil {
		if err := checkName(*req.Name, func(field, why, value string) error { return vm.ErrNetworkInvalid.WithField(field, why, value) }); err != nil {
			return operation.Operation{}, err
		}
	}
	opID, err := uuid.NewV7()
	if err != nil {
		return operation.Operation{}, fmt.Errorf("make operation id: %w", err)
	}
	var before store.NetworkBefore
	change := func(n *store.NetworkRecord) error {
		if n.Status != vm.NetworkActive {
			return vm.ErrNetworkBusy
		}
		before = store.NetworkBefore{Name: n.Name, DHCP: n.DHCP}
		if req.Name != nil {
			n.Name = *req.Name
		}
		if req.DHCP == nil {
			return nil
		}
		if n.CIDR == "" {
			return vm.ErrNetworkInvalid.WithField("body.dhcp", "the outside of a bridge gives the addresses", req.DHCP.Start)
		}
		prefix, err := netip.ParsePrefix(n.CIDR)
		if err != nil {
			return fmt.Errorf("read the range of network %s: %w", n.ID, err)
		}
		first, last, err := parseRange(*req.DHCP, prefix, prefix.Addr().Next())
		n.DHCP = &vm.DHCP{Start: first.String(), End: last.String()}
		return err
	}
	return s.store.UpdateNetwork(ctx, id, req.Version, change, operation.New{ID: opID, Kind: store.KindNetworkUpdate, TargetID: id, TenantID: n.TenantID,
		RequestedBy: caller(ctx).UserID, Generation: 1, Input: &before})
}

// DeleteNetwork begins to remove a network that nothing is connected to; seen is the version that the caller has seen, nil any.
func (s *Service) DeleteNetwork(ctx context.Context, id uuid.UUID, seen *int64) (operation.Operation, error) {
	n, err := s.store.GetNetwork(ctx, id)
	if err == nil {
		err = permitted(ctx, n.TenantID, n.OwnerID, "network:delete", "network:read", vm.ErrNetworkNotFound)
	}
	if err != nil {
		return operation.Operation{}, err
	}
	opID, err := uuid.NewV7()
	if err != nil {
		return operation.Operation{}, fmt.Errorf("make operation id: %w", err)
	}
	return s.store.BeginDeleteNetwork(ctx, id, seen, operation.New{ID: opID, Kind: store.KindNetworkDelete, TargetID: id, TenantID: n.TenantID,
		RequestedBy: caller(ctx).UserID, Generation: 2, Input: struct{}{}})
}
