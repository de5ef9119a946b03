package apiclient

import (
	"context"

	"github.com/google/uuid"
)

// VMRescue is the body of a request to boot a virtual machine from another image.
type VMRescue struct {
	ImageID *uuid.UUID `json:"image_id,omitempty"` // nil: the one that it was made from
	VMStop
}

// RescueVM begins to boot a virtual machine from another image, with its own disks behind it.
func (c *Client) RescueVM(ctx context.Context, id uuid.UUID, body VMRescue) (Object[Operation], error) {
	return post[Operation](ctx, c, "/api/v1/vms/"+id.String()+"/rescue", body)
}
