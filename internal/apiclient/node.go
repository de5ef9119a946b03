package apiclient

import (
	"context"
	"iter"
	"time"

	"github.com/google/uuid"
)

// Node is a hypervisor node, as far as this client looks at it.
type Node struct {
	ID               uuid.UUID         `json:"id"`
	Name             string            `json:"name"`
	State            string            `json:"state"`
	Cordoned         bool              `json:"cordoned"`
	Labels           map[string]string `json:"labels"`
	Capacity         NodeResources     `json:"capacity"`
	Limits           NodeResources     `json:"limits"`
	Allocated        NodeResources     `json:"allocated"`
	VMs              int               `json:"vms"`
	StorageFreeBytes int64             `json:"storage_free_bytes"`
	CPUModel         string            `json:"cpu_model"`
	Accelerator      string            `json:"accelerator"`
	Architecture     string            `json:"architecture"`
	Version          string            `json:"version"`
	Hypervisor       string            `json:"hypervisor_version"`
	Health           string            `json:"health"`
	Reason           string            `json:"reason"`
	LastHeartbeat    time.Time         `json:"last_heartbeat"`
	RegisteredAt     time.Time         `json:"registered_at"`
}

// NodeResources is an amount of what nodes have.
type NodeResources struct {
	VCPUs        int   `json:"vcpus"`
	MemoryBytes  int64 `json:"memory_bytes"`
	StorageBytes int64 `json:"storage_bytes"`
}

// ListNodes gives the nodes, the latest registered first.
func (c *Client) ListNodes(ctx context.Context) iter.Seq2[Object[Node], error] {
	return list[Node](ctx, c, "/api/v1/nodes", nil, 0)
}

// GetNode reads a node.
func (c *Client) GetNode(ctx context.Context, id uuid.UUID) (Object[Node], error) {
	return get[Node](ctx, c, "/api/v1/nodes/"+id.String())
}

// CordonNode has no new machines placed on a node, or lets them be placed there again.
func (c *Client) CordonNode(ctx context.Context, id uuid.UUID, cordoned bool) (Object[Node], error) {
	verb := "uncordon"
	if cordoned {
		verb = "cordon"
	}
	return post[Node](ctx, c, "/api/v1/nodes/"+id.String()+"/"+verb, nil)
}

// Me is what callers see of themselves.
type Me struct {
	ID          uuid.UUID `json:"id"`
	Username    string    `json:"username"`
	Email       string    `json:"email"`
	Role        string    `json:"role"`
	Scope       string    `json:"scope"`
	Permissions []string  `json:"permissions"`
	// The password is a one-time one, and nothing else works until it is replaced.
	PasswordChangeRequired bool `json:"password_change_required"`
	MFAEnabled             bool `json:"mfa_enabled"`
	// What has to be done before anything else works; see identity.Principal.
	Pending string `json:"pending"`
	Tenant  struct {
		ID   uuid.UUID `json:"id"`
		Name string    `json:"name"`
	} `json:"tenant"`
	LastLoginAt *time.Time `json:"last_login_at"`
}

// Me tells who is logged in.
func (c *Client) Me(ctx context.Context) (Object[Me], error) { return get[Me](ctx, c, "/api/v1/me") }

// Info is what the server says of itself.
type Info struct {
	Name    string   `json:"name"`
	Version string   `json:"version"`
	Commit  string   `json:"commit"`
	Modules []string `json:"modules"`
}

// Info asks what the server is. It needs no login.
func (c *Client) Info(ctx context.Context) (Object[Info], error) {
	var o Object[Info]
	err := c.json(ctx, call{method: "GET", path: "/api/v1/info", anonymous: true}, &o)
	return o, err
}
