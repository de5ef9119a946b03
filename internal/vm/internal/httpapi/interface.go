package httpapi

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/httpx/idempotent"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/service"
)

// VMNetwork asks for an interface.
type VMNetwork struct {
	NetworkID      uuid.UUID     `json:"network_id,omitempty" format:"uuid" doc:"Default: the tenant's default network."`
	MAC            string        `json:"mac,omitempty" maxLength:"17" doc:"Default: a free one." example:"52:54:00:12:34:56"`
	IPAddress      string        `json:"ip_address,omitempty" maxLength:"15" doc:"Fixed IPv4 address of the network's range, inside or outside of what DHCP gives out. Default: a free one. On a network of mode bridge, the only address that the interface may use; default: any." example:"10.101.0.20"`
	SecurityGroups *[]uuid.UUID  `json:"security_groups,omitempty" maxItems:"8" doc:"Default: the tenant's default group. With none, nothing but DHCP and DNS passes."`
	Link           string        `json:"link,omitempty" enum:"up,down" default:"up"`
	Bandwidth      *vm.Bandwidth `json:"bandwidth,omitempty"`
}

func (n VMNetwork) request() vm.InterfaceRequest {
	req := vm.InterfaceRequest{NetworkID: n.NetworkID, MAC: n.MAC, IPAddress: n.IPAddress, Down: n.Link == vm.LinkDown}
	if n.SecurityGroups != nil {
		req.SecurityGroups = append([]uuid.UUID{}, *n.SecurityGroups...)
	}
	if n.Bandwidth != nil {
		req.Bandwidth = *n.Bandwidth
	}
	return req
}

func (a *API) registerInterfaces(kit *httpx.API) {
	const all, one = "/api/v1/vms/{id}/interfaces", "/api/v1/vms/{id}/interfaces/{interface_id}"
	type Path struct {
		VMPath
		InterfaceID uuid.UUID `path:"interface_id" format:"uuid" doc:"Id of the interface."`
	}
	type listInput struct {
		VMPath
		httpx.WholeParams
	}
	type listOutput struct{ Body httpx.Page[vm.Interface] }
	httpx.Handle(kit, httpx.Op{ID: "vm-interface-list", Method: http.MethodGet, Path: all, Permission: "vm:read", Owned: true,
		Summary: "List the interfaces of a virtual machine", Tag: "interfaces", Errors: []*errs.Error{vm.ErrNotFound, httpx.ErrCursor}},
		func(ctx context.Context, in *listInput) (*listOutput, error) {
			list, err := a.svc.Interfaces(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			page, err := httpx.Whole(in.WholeParams, list)
			return &listOutput{Body: page}, err
		})
	type getOutput struct{ Body vm.Interface }
	httpx.Handle(kit, httpx.Op{ID: "vm-interface-get", Method: http.MethodGet, Path: one, Permission: "vm:read", Owned: true,
		Summary: "Read an interface", Tag: "interfaces", Errors: []*errs.Error{vm.ErrNotFound, vm.ErrInterfaceNotFound}},
		func(ctx context.Context, in *Path) (*getOutput, error) {
			nic, err := a.svc.GetInterface(ctx, in.ID, in.InterfaceID)
			return &getOutput{Body: nic}, err
		})

	type attachInput struct {
		VMPath
		WaitParams
		Body VMNetwork
	}
	httpx.Handle(kit, httpx.Op{ID: "vm-interface-attach", Method: http.MethodPost, Path: all, Permission: "vm:update", Owned: true,
		Summary: "Plug an interface into a virtual machine", Tag: "interfaces", Status: http.StatusAccepted,
		Description: "A guest that runs gets it at once, one that is off with its next start. Its addresses are fixed from then on.",
		Errors: []*errs.Error{vm.ErrNotFound, vm.ErrLocked, vm.ErrWrongState, vm.ErrNetworkNotFound, vm.ErrGroupNotFound, vm.ErrInterfaceInvalid,
			vm.ErrInterfaceMAC, vm.ErrInterfaceTooMany, vm.ErrAddressTaken, vm.ErrAddressesAreUsed}},
		func(ctx context.Context, in *attachInput) (*accepted, error) {
			op, err := a.svc.AttachInterface(ctx, in.ID, in.Body.request(), idempotent.Key(ctx))
			if err != nil {
				return nil, err
			}
			return a.answer(ctx, op, in.WaitParams)
		})

	type InterfaceUpdate struct {
		SecurityGroups *[]uuid.UUID  `json:"security_groups,omitempty" maxItems:"8" doc:"Replaces all."`
		Link           *string       `json:"link,omitempty" enum:"up,down"`
		Bandwidth      *vm.Bandwidth `json:"bandwidth,omitempty" doc:"Replaces both limits; {} takes them away."`
	}
	type updateInput struct {
		Path
		WaitParams
		Body InterfaceUpdate
	}
	httpx.Handle(kit, httpx.Op{ID: "vm-interface-update", Method: http.MethodPatch, Path: one, Permission: "vm:update", Owned: true,
		Summary: "Change groups, link and bandwidth of an interface, while its guest runs", Tag: "interfaces", Status: http.StatusAccepted,
		Errors: []*errs.Error{vm.ErrNotFound, vm.ErrInterfaceNotFound, vm.ErrLocked, vm.ErrWrongState, vm.ErrGroupNotFound, vm.ErrInterfaceInvalid}},
		func(ctx context.Context, in *updateInput) (*accepted, error) {
			op, err := a.svc.UpdateInterface(ctx, in.ID, in.InterfaceID, service.UpdateInterfaceRequest{SecurityGroups: in.Body.SecurityGroups,
				Link: in.Body.Link, Bandwidth: in.Body.Bandwidth})
			if err != nil {
				return nil, err
			}
			return a.answer(ctx, op, in.WaitParams)
		})

	type deleteInput struct {
		Path
		WaitParams
	}
	httpx.Handle(kit, httpx.Op{ID: "vm-interface-detach", Method: http.MethodDelete, Path: one, Permission: "vm:update", Owned: true,
		Summary: "Take an interface away from a virtual machine", Tag: "interfaces", Status: http.StatusAccepted,
		Description: "It is cut off at once. The operation fails where the guest does not let go of the device; the device then goes when the guest stops.",
		Errors:      []*errs.Error{vm.ErrNotFound, vm.ErrInterfaceNotFound, vm.ErrLocked, vm.ErrWrongState, nodeapi.ErrInterfaceHeld}},
		func(ctx context.Context, in *deleteInput) (*accepted, error) {
			op, err := a.svc.DetachInterface(ctx, in.ID, in.InterfaceID)
			if err != nil {
				return nil, err
			}
			return a.answer(ctx, op, in.WaitParams)
		})
}
