package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/service"
)

// versionTag is the ETag of an object that counts its changes; ifVersion reads one that a client sends back, nil for any.
func versionTag(version int64) string { return strconv.Quote(strconv.FormatInt(version, 10)) }

func ifVersion(header string, mismatch *errs.Error) (*int64, error) {
	if header = strings.TrimSpace(header); header == "" || header == "*" {
		return nil, nil
	}
	text, err := strconv.Unquote(header)
	if err != nil {
		return nil, mismatch // no object of ours ever had such a tag
	}
	version, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, mismatch
	}
	return &version, nil
}

// SecurityRuleCreate is a rule as a client asks for it.
type SecurityRuleCreate struct {
	Direction     string     `json:"direction" enum:"ingress,egress" doc:"ingress: to the guest."`
	Protocol      string     `json:"protocol,omitempty" enum:"any,tcp,udp,icmp,icmpv6" default:"any"`
	PortMin       int        `json:"port_min,omitempty" minimum:"1" maximum:"65535" doc:"Of tcp and udp; none: all ports." example:"443"`
	PortMax       int        `json:"port_max,omitempty" minimum:"1" maximum:"65535" doc:"Default: port_min." example:"443"`
	RemoteCIDR    string     `json:"remote_cidr,omitempty" maxLength:"43" doc:"Range of the other side; with neither this nor a group: anybody." example:"192.0.2.0/24"`
	RemoteGroupID *uuid.UUID `json:"remote_group_id,omitempty" format:"uuid" doc:"Group of the other side. In the body that creates a group, 00000000-0000-0000-0000-000000000000 is the group itself."`
}

func (r SecurityRuleCreate) rule() vm.SecurityRule {
	protocol := r.Protocol
	if protocol == "" {
		protocol = "any"
	}
	return vm.SecurityRule{Direction: r.Direction, Protocol: protocol, PortMin: r.PortMin, PortMax: r.PortMax, RemoteCIDR: r.RemoteCIDR, RemoteGroupID: r.RemoteGroupID}
}

// noContent is the answer of what is gone at once.
type noContent struct{ Status int }

func (a *API) registerSecurityGroups(kit *httpx.API) {
	const all, one, rules = "/api/v1/security-groups", "/api/v1/security-groups/{id}", "/api/v1/security-groups/{id}/rules"
	type Path struct {
		ID uuid.UUID `path:"id" format:"uuid" doc:"Id of the security group."`
	}
	type SecurityGroupCreate struct {
		Name        string               `json:"name" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" patternDescription:"RFC 1123 label" maxLength:"63" doc:"RFC 1123 label, unique in the tenant." example:"web"`
		Description string               `json:"description,omitempty" maxLength:"1024"`
		Rules       []SecurityRuleCreate `json:"rules,omitempty" maxItems:"200" doc:"Default: none, so that nothing comes in or goes out."`
	}
	type groupOutput struct {
		Status   int
		Location string `header:"Location"`
		ETag     string `header:"ETag"`
		Body     vm.SecurityGroup
	}
	shown := func(status int, g vm.SecurityGroup) *groupOutput {
		out := &groupOutput{Status: status, ETag: versionTag(g.Version), Body: g}
		if status == http.StatusCreated {
			out.Location = all + "/" + g.ID.String()
		}
		return out
	}
	httpx.Handle(kit, httpx.Op{ID: "security-group-create", Method: http.MethodPost, Path: all, Permission: "security-group:create", Owned: true,
		Summary: "Create a security group", Tag: "security groups", Status: http.StatusCreated,
		Description: "What no rule of an interface's groups allows is refused. Rules are stateful: answers to what was allowed pass.",
		Errors:      []*errs.Error{vm.ErrGroupInvalid, vm.ErrGroupTaken, vm.ErrGroupNotFound, vm.ErrRuleExists, vm.ErrRuleTooMany}},
		func(ctx context.Context, in *struct{ Body SecurityGroupCreate }) (*groupOutput, error) {
			var list []vm.SecurityRule
			for _, r := range in.Body.Rules {
				list = append(list, r.rule())
			}
			g, err := a.svc.CreateGroup(ctx, in.Body.Name, in.Body.Description, list)
			if err != nil {
				return nil, err
			}
			return shown(http.StatusCreated, g), nil
		})
	type listInput struct {
		httpx.PageParams
		Name string `query:"name" maxLength:"63" doc:"Only the one of this name."`
	}
	type listOutput struct{ Body httpx.Page[vm.SecurityGroup] }
	httpx.Handle(kit, httpx.Op{ID: "security-group-list", Method: http.MethodGet, Path: all, Permission: "security-group:read", Owned: true,
		Summary: "List security groups, newest first", Tag: "security groups", Errors: []*errs.Error{httpx.ErrCursor}},
		func(ctx context.Context, in *listInput) (*listOutput, error) {
			page, err := httpx.List(in.PageParams, func(g vm.SecurityGroup) httpx.Cursor { return httpx.Cursor{CreatedAt: g.CreatedAt, ID: g.ID} },
				func(after *httpx.Cursor, limit int) ([]vm.SecurityGroup, error) {
					return a.svc.ListGroups(ctx, in.Name, after, limit)
				})
			return &listOutput{Body: page}, err
		})
	httpx.Handle(kit, httpx.Op{ID: "security-group-get", Method: http.MethodGet, Path: one, Permission: "security-group:read", Owned: true,
		Summary: "Read a security group", Tag: "security groups", Errors: []*errs.Error{vm.ErrGroupNotFound}},
		func(ctx context.Context, in *Path) (*groupOutput, error) {
			g, err := a.svc.GetGroup(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			return shown(http.StatusOK, g), nil
		})
	type SecurityGroupUpdate struct {
		Name        *string `json:"name,omitempty" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" patternDescription:"RFC 1123 label" maxLength:"63"`
		Description *string `json:"description,omitempty" maxLength:"1024"`
	}
	type updateInput struct {
		Path
		IfMatch string `header:"If-Match" maxLength:"128" doc:"The ETag of what is to be changed."`
		Body    SecurityGroupUpdate
	}
	httpx.Handle(kit, httpx.Op{ID: "security-group-update", Method: http.MethodPatch, Path: one, Permission: "security-group:update", Owned: true,
		Summary: "Change name or description of a security group", Tag: "security groups",
		Errors: []*errs.Error{vm.ErrGroupNotFound, vm.ErrGroupInvalid, vm.ErrGroupTaken, vm.ErrGroupVersion}},
		func(ctx context.Context, in *updateInput) (*groupOutput, error) {
			version, err := ifVersion(in.IfMatch, vm.ErrGroupVersion)
			if err != nil {
				return nil, err
			}
			g, err := a.svc.UpdateGroup(ctx, in.ID, in.Body.Name, in.Body.Description, version)
			if err != nil {
				return nil, err
			}
			return shown(http.StatusOK, g), nil
		})
	type deleteInput struct {
		Path
		IfMatch string `header:"If-Match" maxLength:"128" doc:"The ETag of what is to be deleted."`
	}
	httpx.Handle(kit, httpx.Op{ID: "security-group-delete", Method: http.MethodDelete, Path: one, Permission: "security-group:delete", Owned: true,
		Summary: "Delete a security group that nothing refers to", Tag: "security groups", Status: http.StatusNoContent,
		Errors: []*errs.Error{vm.ErrGroupNotFound, vm.ErrGroupInUse, vm.ErrGroupDefault, vm.ErrGroupVersion}},
		func(ctx context.Context, in *deleteInput) (*noContent, error) {
			seen, err := ifVersion(in.IfMatch, vm.ErrGroupVersion)
			if err != nil {
				return nil, err
			}
			return &noContent{Status: http.StatusNoContent}, a.svc.DeleteGroup(ctx, in.ID, seen)
		})

	type ruleOutput struct {
		Status int
		Body   vm.SecurityRule
	}
	type ruleInput struct {
		Path
		Body SecurityRuleCreate
	}
	httpx.Handle(kit, httpx.Op{ID: "security-group-rule-add", Method: http.MethodPost, Path: rules, Permission: "security-group:update", Owned: true,
		Summary: "Add a rule, in force on running guests when the answer comes", Tag: "security groups", Status: http.StatusCreated,
		Errors: []*errs.Error{vm.ErrGroupNotFound, vm.ErrGroupInvalid, vm.ErrRuleExists, vm.ErrRuleTooMany}},
		func(ctx context.Context, in *ruleInput) (*ruleOutput, error) {
			r, err := a.svc.AddRule(ctx, in.ID, in.Body.rule())
			return &ruleOutput{Status: http.StatusCreated, Body: r}, err
		})
	type rulePath struct {
		Path
		RuleID uuid.UUID `path:"rule_id" format:"uuid" doc:"Id of the rule."`
	}
	httpx.Handle(kit, httpx.Op{ID: "security-group-rule-remove", Method: http.MethodDelete, Path: rules + "/{rule_id}", Permission: "security-group:update", Owned: true,
		Summary: "Take a rule away, also from open connections", Tag: "security groups", Status: http.StatusNoContent,
		Errors: []*errs.Error{vm.ErrGroupNotFound, vm.ErrRuleNotFound}},
		func(ctx context.Context, in *rulePath) (*noContent, error) {
			return &noContent{Status: http.StatusNoContent}, a.svc.RemoveRule(ctx, in.ID, in.RuleID)
		})
}

func (a *API) registerPortForwards(kit *httpx.API) {
	const all, one = "/api/v1/port-forwards", "/api/v1/port-forwards/{id}"
	type Path struct {
		ID uuid.UUID `path:"id" format:"uuid" doc:"Id of the port forward."`
	}
	type PortForwardCreate struct {
		VMID        uuid.UUID  `json:"vm_id" format:"uuid"`
		InterfaceID *uuid.UUID `json:"interface_id,omitempty" format:"uuid" doc:"Default: the first on a NAT network."`
		Protocol    string     `json:"protocol,omitempty" enum:"tcp,udp" default:"tcp"`
		HostPort    int        `json:"host_port,omitempty" minimum:"1" maximum:"65535" doc:"From 1024 on. Default: a free one from 30000 to 32767." example:"8443"`
		GuestPort   int        `json:"guest_port" minimum:"1" maximum:"65535" example:"443"`
		SourceCIDR  string     `json:"source_cidr,omitempty" maxLength:"18" doc:"Who may use it. Default: anybody." example:"192.0.2.0/24"`
	}
	type output struct {
		Status   int
		Location string `header:"Location"`
		Body     vm.PortForward
	}
	httpx.Handle(kit, httpx.Op{ID: "port-forward-create", Method: http.MethodPost, Path: all, Permission: "port-forward:create", Owned: true,
		Summary: "Forward a port of the node to a guest", Tag: "port forwards", Status: http.StatusCreated,
		Description: "Works when the answer comes, on every address of the node. It opens the guest's port to those who come through it, whatever " +
			"the security groups say, and to nobody else. It goes with its virtual machine.",
		Errors: []*errs.Error{vm.ErrNotFound, vm.ErrInterfaceNotFound, vm.ErrForwardInvalid, vm.ErrForwardTaken, vm.ErrForwardListens, vm.ErrForwardTarget}},
		func(ctx context.Context, in *struct{ Body PortForwardCreate }) (*output, error) {
			b := in.Body
			if b.Protocol == "" {
				b.Protocol = "tcp"
			}
			f, err := a.svc.CreateForward(ctx, service.ForwardRequest{VMID: b.VMID, InterfaceID: b.InterfaceID, Protocol: b.Protocol, HostPort: b.HostPort,
				GuestPort: b.GuestPort, SourceCIDR: b.SourceCIDR})
			return &output{Status: http.StatusCreated, Location: all + "/" + f.ID.String(), Body: f}, err
		})
	type listInput struct {
		httpx.PageParams
		VMID string `query:"vm_id" format:"uuid" doc:"Only those of this virtual machine."`
	}
	type listOutput struct{ Body httpx.Page[vm.PortForward] }
	httpx.Handle(kit, httpx.Op{ID: "port-forward-list", Method: http.MethodGet, Path: all, Permission: "port-forward:read", Owned: true,
		Summary: "List port forwards, newest first", Tag: "port forwards", Errors: []*errs.Error{httpx.ErrCursor}},
		func(ctx context.Context, in *listInput) (*listOutput, error) {
			var of *uuid.UUID
			if id, err := uuid.Parse(in.VMID); err == nil {
				of = &id
			}
			page, err := httpx.List(in.PageParams, func(f vm.PortForward) httpx.Cursor { return httpx.Cursor{CreatedAt: f.CreatedAt, ID: f.ID} },
				func(after *httpx.Cursor, limit int) ([]vm.PortForward, error) {
					return a.svc.ListForwards(ctx, of, after, limit)
				})
			return &listOutput{Body: page}, err
		})
	httpx.Handle(kit, httpx.Op{ID: "port-forward-get", Method: http.MethodGet, Path: one, Permission: "port-forward:read", Owned: true,
		Summary: "Read a port forward", Tag: "port forwards", Errors: []*errs.Error{vm.ErrForwardNotFound}},
		func(ctx context.Context, in *Path) (*output, error) {
			f, err := a.svc.GetForward(ctx, in.ID)
			return &output{Status: http.StatusOK, Body: f}, err
		})
	httpx.Handle(kit, httpx.Op{ID: "port-forward-delete", Method: http.MethodDelete, Path: one, Permission: "port-forward:delete", Owned: true,
		Summary: "Close a forwarded port, also for open connections", Tag: "port forwards", Status: http.StatusNoContent, Errors: []*errs.Error{vm.ErrForwardNotFound}},
		func(ctx context.Context, in *Path) (*noContent, error) {
			return &noContent{Status: http.StatusNoContent}, a.svc.DeleteForward(ctx, in.ID)
		})
}
