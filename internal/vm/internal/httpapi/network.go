package httpapi

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/httpx/idempotent"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/service"
)

// networkWait is how long the creation of a network may hold the answer where nothing else is asked for: it is active within a second where all
// is well.
const networkWait = 30 * time.Second

func (a *API) registerNetworks(kit *httpx.API) {
	type NetworkCreate struct {
		Name string   `json:"name" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" patternDescription:"RFC 1123 label" maxLength:"63" doc:"RFC 1123 label, unique in the tenant." example:"backend"`
		Mode string   `json:"mode,omitempty" enum:"nat,isolated,routed,bridge" default:"nat" doc:"nat reaches the outside through the node's address; isolated does not; routed by its own addresses, which the outside has a route to; bridge is on a bridge of the nodes. The last two need the permission network:provider on the platform."`
		CIDR string   `json:"cidr,omitempty" maxLength:"18" doc:"Private IPv4 range, /16 to /29; its first address is the gateway. Default: the next free /24. None in mode bridge." example:"10.101.0.0/24"`
		DHCP *vm.DHCP `json:"dhcp,omitempty" doc:"Addresses that guests without a fixed one get. Default: all but the gateway."`

		IPv6     bool   `json:"ipv6,omitempty" doc:"Give it a random unique local IPv6 range."`
		IPv6CIDR string `json:"ipv6_cidr,omitempty" maxLength:"43" doc:"IPv6 range of 64 bits. It is announced; guests make their addresses of it and their MAC." example:"fd12:3456:789a:1::/64"`
		Uplink   string `json:"uplink,omitempty" maxLength:"15" doc:"Mode bridge: a bridge of the nodes, or with vlan any device of theirs." example:"br0"`
		VLAN     int    `json:"vlan,omitempty" minimum:"1" maximum:"4094" doc:"Mode bridge: 802.1Q tag on the uplink." example:"42"`
	}
	type createInput struct {
		WaitParams
		Body NetworkCreate
	}
	type networkOutput struct {
		Status   int
		Location string `header:"Location"`
		Applied  string `header:"Preference-Applied"`
		Body     vm.Network
	}
	httpx.Handle(kit, httpx.Op{ID: "network-create", Method: http.MethodPost, Path: "/api/v1/networks", Permission: "network:create", Owned: true,
		Summary: "Create a network", Tag: "networks", Status: http.StatusCreated,
		Errors: []*errs.Error{vm.ErrNetworkInvalid, vm.ErrNetworkTaken, vm.ErrNetworkOverlap, vm.ErrNoAddressRange, vm.ErrNetworkProvider, nodeapi.ErrUplink}},
		func(ctx context.Context, in *createInput) (*networkOutput, error) {
			n, op, err := a.svc.CreateNetwork(ctx, service.CreateNetworkRequest{Name: in.Body.Name, Mode: vm.NetworkMode(in.Body.Mode),
				CIDR: in.Body.CIDR, DHCP: in.Body.DHCP, IPv6: in.Body.IPv6, IPv6CIDR: in.Body.IPv6CIDR, Uplink: in.Body.Uplink, VLAN: in.Body.VLAN, IdempotencyKey: idempotent.Key(ctx)})
			if err != nil {
				return nil, err
			}
			if op, err = a.svc.Await(ctx, op, cmp.Or(in.duration(), networkWait)); err != nil {
				return nil, err
			}
			if op.EndedAt != nil && op.Status != operation.StatusSucceeded {
				return nil, op.Error
			}
			if n, err = a.svc.GetNetwork(ctx, n.ID); err != nil {
				return nil, err
			}
			return &networkOutput{Status: http.StatusCreated, Location: "/api/v1/networks/" + n.ID.String(), Applied: in.applied(), Body: n}, nil
		})

	type listInput struct {
		httpx.PageParams
		Name string `query:"name" maxLength:"63" doc:"Only the one of this name."`
	}
	type listOutput struct{ Body httpx.Page[vm.Network] }
	httpx.Handle(kit, httpx.Op{ID: "network-list", Method: http.MethodGet, Path: "/api/v1/networks", Permission: "network:read", Owned: true,
		Summary: "List networks, newest first", Tag: "networks", Errors: []*errs.Error{httpx.ErrCursor}},
		func(ctx context.Context, in *listInput) (*listOutput, error) {
			page, err := httpx.List(in.PageParams, func(n vm.Network) httpx.Cursor { return httpx.Cursor{CreatedAt: n.CreatedAt, ID: n.ID} },
				func(after *httpx.Cursor, limit int) ([]vm.Network, error) {
					return a.svc.ListNetworks(ctx, in.Name, after, limit)
				})
			return &listOutput{Body: page}, err
		})

	type Path struct {
		ID uuid.UUID `path:"id" format:"uuid" doc:"Id of the network."`
	}
	type getOutput struct {
		ETag string `header:"ETag"`
		Body vm.Network
	}
	httpx.Handle(kit, httpx.Op{ID: "network-get", Method: http.MethodGet, Path: "/api/v1/networks/{id}", Permission: "network:read", Owned: true,
		Summary: "Read a network", Tag: "networks", Errors: []*errs.Error{vm.ErrNetworkNotFound}},
		func(ctx context.Context, in *Path) (*getOutput, error) {
			n, err := a.svc.GetNetwork(ctx, in.ID)
			return &getOutput{ETag: versionTag(n.Version), Body: n}, err
		})

	type NetworkUpdate struct {
		Name *string  `json:"name,omitempty" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" patternDescription:"RFC 1123 label" maxLength:"63"`
		DHCP *vm.DHCP `json:"dhcp,omitempty" doc:"Addresses that interfaces get from now on. Those that have one keep it."`
	}
	type updateInput struct {
		Path
		IfMatch string `header:"If-Match" maxLength:"128" doc:"The ETag of what is to be changed."`
		Body    NetworkUpdate
	}
	httpx.Handle(kit, httpx.Op{ID: "network-update", Method: http.MethodPatch, Path: "/api/v1/networks/{id}", Permission: "network:update", Owned: true,
		Summary: "Change name or DHCP range of a network, while its guests run", Tag: "networks",
		Errors: []*errs.Error{vm.ErrNetworkNotFound, vm.ErrNetworkInvalid, vm.ErrNetworkTaken, vm.ErrNetworkBusy, vm.ErrNetworkVersion}},
		func(ctx context.Context, in *updateInput) (*getOutput, error) {
			version, err := ifVersion(in.IfMatch, vm.ErrNetworkVersion)
			if err != nil {
				return nil, err
			}
			op, err := a.svc.UpdateNetwork(ctx, in.ID, service.UpdateNetworkRequest{Name: in.Body.Name, DHCP: in.Body.DHCP, Version: version})
			if err != nil {
				return nil, err
			}
			if op, err = a.svc.Await(ctx, op, networkWait); err != nil {
				return nil, err
			}
			if op.EndedAt != nil && op.Status != operation.StatusSucceeded {
				return nil, op.Error
			}
			n, err := a.svc.GetNetwork(ctx, in.ID)
			return &getOutput{ETag: versionTag(n.Version), Body: n}, err
		})

	type deleteInput struct {
		Path
		WaitParams
		IfMatch string `header:"If-Match" maxLength:"128" doc:"The ETag of what is to be deleted."`
	}
	httpx.Handle(kit, httpx.Op{ID: "network-delete", Method: http.MethodDelete, Path: "/api/v1/networks/{id}", Permission: "network:delete", Owned: true,
		Summary: "Delete a network that nothing is connected to", Tag: "networks", Status: http.StatusAccepted,
		Errors: []*errs.Error{vm.ErrNetworkNotFound, vm.ErrNetworkInUse, vm.ErrNetworkBusy, vm.ErrNetworkVersion}},
		func(ctx context.Context, in *deleteInput) (*accepted, error) {
			seen, err := ifVersion(in.IfMatch, vm.ErrNetworkVersion)
			if err != nil {
				return nil, err
			}
			op, err := a.svc.DeleteNetwork(ctx, in.ID, seen)
			if err != nil {
				return nil, err
			}
			return a.answer(ctx, op, in.WaitParams)
		})
}
