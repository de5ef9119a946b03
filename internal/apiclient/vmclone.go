package apiclient

import (
	"context"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm"
)

// VMClone is the body of a request to clone a virtual machine. What is zero is as the source has it.
type VMClone struct {
	Name       string            `json:"name"`
	Mode       vm.CloneMode      `json:"mode,omitempty"`
	SnapshotID *uuid.UUID        `json:"snapshot_id,omitempty"`
	DiskGiB    int64             `json:"disk_gib,omitempty"`
	Networks   []VMNetwork       `json:"networks,omitempty"`
	SSHKeys    []string          `json:"ssh_keys,omitempty"`
	UserData   *string           `json:"user_data,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	Start      *bool             `json:"start,omitempty"`
}

// CloneVM begins to clone a virtual machine.
func (c *Client) CloneVM(ctx context.Context, id uuid.UUID, body VMClone) (Object[Operation], error) {
	return post[Operation](ctx, c, "/api/v1/vms/"+id.String()+"/clone", body)
}

// VMRebuild is the body of a request to rebuild a virtual machine. What is zero is as it was.
type VMRebuild struct {
	ImageID  *uuid.UUID `json:"image_id,omitempty"`
	SSHKeys  []string   `json:"ssh_keys,omitempty"`
	UserData *string    `json:"user_data,omitempty"`
	Start    *bool      `json:"start,omitempty"`
}

// RebuildVM begins to make the root disk of a virtual machine anew.
func (c *Client) RebuildVM(ctx context.Context, id uuid.UUID, body VMRebuild) (Object[Operation], error) {
	return post[Operation](ctx, c, "/api/v1/vms/"+id.String()+"/rebuild", body)
}

// MigrateVM asks to move a virtual machine to a node, or with nil to whichever fits best.
func (c *Client) MigrateVM(ctx context.Context, id uuid.UUID, to *uuid.UUID) (Object[Operation], error) {
	body := struct {
		NodeID *uuid.UUID `json:"node_id,omitempty"`
	}{to}
	return post[Operation](ctx, c, "/api/v1/vms/"+id.String()+"/migrate", body)
}
