package apiclient

import (
	"context"
	"iter"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm"
)

// VMPatch changes what it names of a virtual machine.
type VMPatch struct {
	Name             *string                `json:"name,omitempty"`
	Description      *string                `json:"description,omitempty"`
	Tags             map[string]*string     `json:"tags,omitempty"` // nil removes one
	DeleteProtection *bool                  `json:"delete_protection,omitempty"`
	Autostart        *vm.AutostartChange    `json:"autostart,omitempty"`
	CPU              *vm.CPU                `json:"cpu,omitempty"`
	IOLimits         map[string]vm.IOLimits `json:"io_limits,omitempty"`
	Watchdog         *vm.Watchdog           `json:"watchdog,omitempty"`
	BootOrder        *[]string              `json:"boot_order,omitempty"`
}

// VMSize is what a machine is resized to; what is 0 stays. A flavor stands for all of it.
type VMSize struct {
	VCPUs     int    `json:"vcpus,omitempty"`
	MemoryMiB int64  `json:"memory_mib,omitempty"`
	Flavor    string `json:"flavor,omitempty"`
}

// UpdateVM changes a virtual machine.
func (c *Client) UpdateVM(ctx context.Context, id uuid.UUID, body VMPatch) (Object[vm.VM], error) {
	return patch[vm.VM](ctx, c, "/api/v1/vms/"+id.String(), body)
}

// ResizeVM begins to resize a virtual machine.
func (c *Client) ResizeVM(ctx context.Context, id uuid.UUID, size VMSize) (Object[Operation], error) {
	return post[Operation](ctx, c, "/api/v1/vms/"+id.String()+"/resize", size)
}

// VMHistory gives what happened to a virtual machine, newest first; most may be 0.
func (c *Client) VMHistory(ctx context.Context, id uuid.UUID, most int) iter.Seq2[Object[vm.HistoryItem], error] {
	return list[vm.HistoryItem](ctx, c, "/api/v1/vms/"+id.String()+"/history", nil, most)
}
