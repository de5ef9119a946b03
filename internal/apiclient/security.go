package apiclient

import (
	"context"
	"iter"
	"net/http"
	"net/url"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm"
)

// InterfaceUpdate is the body that changes an interface; nil leaves as it is.
type InterfaceUpdate struct {
	SecurityGroups *[]uuid.UUID  `json:"security_groups,omitempty"`
	Link           *string       `json:"link,omitempty"`
	Bandwidth      *vm.Bandwidth `json:"bandwidth,omitempty"`
}

func interfacesPath(machine uuid.UUID) string {
	return "/api/v1/vms/" + machine.String() + "/interfaces"
}

// ListInterfaces gives the interfaces of a machine.
func (c *Client) ListInterfaces(ctx context.Context, machine uuid.UUID) iter.Seq2[Object[vm.Interface], error] {
	return listWhole[vm.Interface](ctx, c, interfacesPath(machine))
}

// AttachInterface begins to plug an interface in.
func (c *Client) AttachInterface(ctx context.Context, machine uuid.UUID, body VMNetwork) (Object[Operation], error) {
	return post[Operation](ctx, c, interfacesPath(machine), body)
}

// UpdateInterface begins to change an interface.
func (c *Client) UpdateInterface(ctx context.Context, machine, id uuid.UUID, body InterfaceUpdate) (Object[Operation], error) {
	return patch[Operation](ctx, c, interfacesPath(machine)+"/"+id.String(), body)
}

// DetachInterface begins to take an interface away.
func (c *Client) DetachInterface(ctx context.Context, machine, id uuid.UUID) (Object[Operation], error) {
	return begin(ctx, c, http.MethodDelete, interfacesPath(machine)+"/"+id.String(), nil)
}

// SecurityRule is a rule to add. What is left zero gets the server's default.
type SecurityRule struct {
	Direction     string     `json:"direction"`
	Protocol      string     `json:"protocol,omitempty"`
	PortMin       int        `json:"port_min,omitempty"`
	PortMax       int        `json:"port_max,omitempty"`
	RemoteCIDR    string     `json:"remote_cidr,omitempty"`
	RemoteGroupID *uuid.UUID `json:"remote_group_id,omitempty"`
}

// SecurityGroupCreate is the body that creates a security group.
type SecurityGroupCreate struct {
	Name        string         `json:"name"`
	Description string         `json:"description,omitempty"`
	Rules       []SecurityRule `json:"rules,omitempty"`
}

// SecurityGroupUpdate is the body that changes one; nil leaves as it is.
type SecurityGroupUpdate struct {
	Name        *string `json:"name,omitempty"`
	Description *string `json:"description,omitempty"`
}

func groupPath(id uuid.UUID) string { return "/api/v1/security-groups/" + id.String() }

// ListSecurityGroups gives the security groups, newest first; name may be empty, most 0.
func (c *Client) ListSecurityGroups(ctx context.Context, name string, most int) iter.Seq2[Object[vm.SecurityGroup], error] {
	return list[vm.SecurityGroup](ctx, c, "/api/v1/security-groups", url.Values{"name": {name}}, most)
}

// GetSecurityGroup reads a security group.
func (c *Client) GetSecurityGroup(ctx context.Context, id uuid.UUID) (Object[vm.SecurityGroup], error) {
	return get[vm.SecurityGroup](ctx, c, groupPath(id))
}

// CreateSecurityGroup creates a security group.
func (c *Client) CreateSecurityGroup(ctx context.Context, body SecurityGroupCreate) (Object[vm.SecurityGroup], error) {
	return post[vm.SecurityGroup](ctx, c, "/api/v1/security-groups", body)
}

// UpdateSecurityGroup changes a security group.
func (c *Client) UpdateSecurityGroup(ctx context.Context, id uuid.UUID, body SecurityGroupUpdate) (Object[vm.SecurityGroup], error) {
	return patch[vm.SecurityGroup](ctx, c, groupPath(id), body)
}

// DeleteSecurityGroup deletes a security group.
func (c *Client) DeleteSecurityGroup(ctx context.Context, id uuid.UUID) error {
	return c.json(ctx, call{method: http.MethodDelete, path: groupPath(id)}, nil)
}

// AddRule adds a rule to a security group.
func (c *Client) AddRule(ctx context.Context, group uuid.UUID, rule SecurityRule) (Object[vm.SecurityRule], error) {
	return post[vm.SecurityRule](ctx, c, groupPath(group)+"/rules", rule)
}

// RemoveRule takes a rule away.
func (c *Client) RemoveRule(ctx context.Context, group, rule uuid.UUID) error {
	return c.json(ctx, call{method: http.MethodDelete, path: groupPath(group) + "/rules/" + rule.String()}, nil)
}

// PortForwardCreate is the body that forwards a port. What is left zero gets the server's default.
type PortForwardCreate struct {
	VMID        uuid.UUID  `json:"vm_id"`
	InterfaceID *uuid.UUID `json:"interface_id,omitempty"`
	Protocol    string     `json:"protocol,omitempty"`
	HostPort    int        `json:"host_port,omitempty"`
	GuestPort   int        `json:"guest_port"`
	SourceCIDR  string     `json:"source_cidr,omitempty"`
}

// ListPortForwards gives the port forwards, newest first: of one machine, or of all.
func (c *Client) ListPortForwards(ctx context.Context, machine *uuid.UUID, most int) iter.Seq2[Object[vm.PortForward], error] {
	query := url.Values{}
	if machine != nil {
		query.Set("vm_id", machine.String())
	}
	return list[vm.PortForward](ctx, c, "/api/v1/port-forwards", query, most)
}

// CreatePortForward forwards a port; it works when this comes back.
func (c *Client) CreatePortForward(ctx context.Context, body PortForwardCreate) (Object[vm.PortForward], error) {
	return post[vm.PortForward](ctx, c, "/api/v1/port-forwards", body)
}

// DeletePortForward closes a forwarded port.
func (c *Client) DeletePortForward(ctx context.Context, id uuid.UUID) error {
	return c.json(ctx, call{method: http.MethodDelete, path: "/api/v1/port-forwards/" + id.String()}, nil)
}
