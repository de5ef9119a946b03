package apiclient

import (
	"context"
	"iter"
	"net/http"
	"net/url"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm"
)

// NetworkCreate is the body that creates a network. What is left zero gets the server's default.
type NetworkCreate struct {
	Name string   `json:"name"`
	Mode string   `json:"mode,omitempty"`
	CIDR string   `json:"cidr,omitempty"`
	DHCP *vm.DHCP `json:"dhcp,omitempty"`

	IPv6     bool   `json:"ipv6,omitempty"`
	IPv6CIDR string `json:"ipv6_cidr,omitempty"`
	Uplink   string `json:"uplink,omitempty"`
	VLAN     int    `json:"vlan,omitempty"`
}

// NetworkUpdate is the body that changes a network; nil leaves as it is.
type NetworkUpdate struct {
	Name *string  `json:"name,omitempty"`
	DHCP *vm.DHCP `json:"dhcp,omitempty"`
}

// UpdateNetwork changes a network, while its guests run.
func (c *Client) UpdateNetwork(ctx context.Context, id uuid.UUID, body NetworkUpdate) (Object[vm.Network], error) {
	return patch[vm.Network](ctx, c, "/api/v1/networks/"+id.String(), body)
}

// ListNetworks gives the networks, newest first; name may be empty, most 0.
func (c *Client) ListNetworks(ctx context.Context, name string, most int) iter.Seq2[Object[vm.Network], error] {
	return list[vm.Network](ctx, c, "/api/v1/networks", url.Values{"name": {name}}, most)
}

// GetNetwork reads a network.
func (c *Client) GetNetwork(ctx context.Context, id uuid.UUID) (Object[vm.Network], error) {
	return get[vm.Network](ctx, c, "/api/v1/networks/"+id.String())
}

// CreateNetwork creates a network and comes back once it is active.
func (c *Client) CreateNetwork(ctx context.Context, body NetworkCreate) (Object[vm.Network], error) {
	return post[vm.Network](ctx, c, "/api/v1/networks", body)
}

// DeleteNetwork begins to delete a network.
func (c *Client) DeleteNetwork(ctx context.Context, id uuid.UUID) (Object[Operation], error) {
	var op Object[Operation]
	err := c.json(ctx, call{method: http.MethodDelete, path: "/api/v1/networks/" + id.String()}, &op)
	return op, err
}
