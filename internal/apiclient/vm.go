package apiclient

import (
	"context"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm"
)

// VMCreate is the body that creates a virtual machine. What is left zero gets the server's default.
type VMCreate struct {
	Name       string       `json:"name"`
	TemplateID *uuid.UUID   `json:"template_id,omitempty"`
	ImageID    uuid.UUID    `json:"image_id,omitzero"`
	Flavor     string       `json:"flavor,omitempty"`
	Resources  *VMResources `json:"resources,omitempty"`
	Networks   []VMNetwork  `json:"networks,omitempty"`
	SSHKeys    []string     `json:"ssh_keys,omitempty"`
	UserData   string       `json:"user_data,omitempty"`
	vm.CloudInit
	Tags             map[string]string `json:"tags,omitempty"`
	Description      string            `json:"description,omitempty"`
	DeleteProtection bool              `json:"delete_protection,omitempty"`
	Start            *bool             `json:"start,omitempty"`
	// CDROM is an ISO image for the drive.
	CDROM      *uuid.UUID     `json:"cdrom_image_id,omitempty"`
	DirectBoot *vm.DirectBoot `json:"direct_boot,omitempty"`
	BootOrder  []string       `json:"boot_order,omitempty"`
	vm.Hardware
}

// VMResources is the size to create; a part that is 0 comes from the flavor.
type VMResources struct {
	VCPUs     int   `json:"vcpus,omitempty"`
	MemoryMiB int64 `json:"memory_mib,omitempty"`
	DiskGiB   int64 `json:"disk_gib,omitempty"`
}

// VMNetwork asks for an interface. What is left zero gets the server's default.
type VMNetwork struct {
	NetworkID      *uuid.UUID    `json:"network_id,omitempty"`
	MAC            string        `json:"mac,omitempty"`
	IPAddress      string        `json:"ip_address,omitempty"`
	SecurityGroups *[]uuid.UUID  `json:"security_groups,omitempty"`
	Link           string        `json:"link,omitempty"`
	Bandwidth      *vm.Bandwidth `json:"bandwidth,omitempty"`
}

// VMStop says how to stop or restart.
type VMStop struct {
	Force        bool `json:"force,omitempty"`
	GraceSeconds *int `json:"grace_seconds,omitempty"` // nil: the server's default
}

// VMFilter narrows a list; empty fields do not.
type VMFilter struct {
	Name       string
	State      string
	NamePrefix string
	Tags       []string // each key=value, or key
	Text       string
	Node       string // ids
	Image      string
	Network    string
	Owner      string
	Sort       string
	AllTenants bool
	Most       int // items; 0: all
}

// The actions on a virtual machine that VMAction takes.
const (
	ActionStart    = "start"
	ActionStop     = "stop"
	ActionRestart  = "restart"
	ActionReset    = "reset"
	ActionPause    = "pause"
	ActionResume   = "resume"
	ActionSuspend  = "suspend"
	ActionUnrescue = "unrescue"
)

// ListVMs gives the virtual machines, newest first.
func (c *Client) ListVMs(ctx context.Context, f VMFilter) iter.Seq2[Object[vm.VM], error] {
	q := url.Values{"name": {f.Name}, "state": {f.State}, "name_prefix": {f.NamePrefix}, "tag": f.Tags, "q": {f.Text}, "node_id": {f.Node},
		"image_id": {f.Image}, "network_id": {f.Network}, "owner_id": {f.Owner}, "sort": {f.Sort}}
	if f.AllTenants {
		q.Set("tenant_id", "all")
	}
	return list[vm.VM](ctx, c, "/api/v1/vms", q, f.Most)
}

// GetVM reads a virtual machine.
func (c *Client) GetVM(ctx context.Context, id uuid.UUID) (Object[vm.VM], error) {
	return get[vm.VM](ctx, c, "/api/v1/vms/"+id.String())
}

// maxStatuses is how many statuses the server gives at once.
const maxStatuses = 200

// VMStatuses reads the statuses of machines, in their order, each once. Those that are not there are left out.
func (c *Client) VMStatuses(ctx context.Context, ids []uuid.UUID) ([]Object[vm.Status], error) {
	var all []Object[vm.Status]
	for part := range slices.Chunk(ids, maxStatuses) {
		texts := make([]string, len(part))
		for i, id := range part {
			texts[i] = id.String()
		}
		var answer struct {
			Items []Object[vm.Status] `json:"items"`
		}
		if err := c.json(ctx, call{method: http.MethodGet, path: "/api/v1/vms/status", query: url.Values{"ids": {strings.Join(texts, ",")}}}, &answer); err != nil {
			return nil, err
		}
		all = append(all, answer.Items...)
	}
	return all, nil
}

// CreateVM begins to create a virtual machine, whose id is the operation's target.
func (c *Client) CreateVM(ctx context.Context, body VMCreate) (Object[Operation], error) {
	return post[Operation](ctx, c, "/api/v1/vms", body)
}

// VMAction begins a change of state. how may be nil; only stop, restart and unrescue take it.
func (c *Client) VMAction(ctx context.Context, id uuid.UUID, action string, how *VMStop) (Object[Operation], error) {
	var body any
	if how != nil {
		body = how
	}
	return post[Operation](ctx, c, "/api/v1/vms/"+id.String()+"/"+action, body)
}

// DeleteVM begins to delete a virtual machine, and the volumes that are attached to it where that is asked for.
func (c *Client) DeleteVM(ctx context.Context, id uuid.UUID, volumes bool) (Object[Operation], error) {
	query := url.Values{}
	if volumes {
		query.Set("delete_volumes", "true")
	}
	return begin(ctx, c, http.MethodDelete, "/api/v1/vms/"+id.String(), query)
}

// ImageUpload describes an image that is sent.
type ImageUpload struct {
	Name     string
	Format   string // qcow2, raw, vmdk, vhdx or iso; "": the header decides alone
	Kind     string // disk, iso, kernel or initrd; "": the header tells disk from iso
	Checksum string // "sha256:<hex>"; "": not checked
	From     io.Reader
	Size     int64            // of From; -1: not known
	Progress func(sent int64) // may be nil; called from another goroutine, with a smaller number when the upload begins anew
}

// UploadImage sends an image. Where From can seek, the upload is repeated after a failure that may pass. The image that comes back may still be importing.
func (c *Client) UploadImage(ctx context.Context, up ImageUpload) (Object[vm.Image], error) {
	q := url.Values{"name": {up.Name}}
	if up.Format != "" {
		q.Set("format", up.Format)
	}
	if up.Kind != "" {
		q.Set("kind", up.Kind)
	}
	if up.Checksum != "" {
		q.Set("checksum", up.Checksum)
	}
	var image Object[vm.Image]
	err := c.json(ctx, call{method: http.MethodPost, path: "/api/v1/images", query: q, key: newKey(),
		upload: &upload{from: up.From, size: up.Size, progress: up.Progress}}, &image)
	return image, err
}

// ListImages gives the images, newest first; name may be empty, most 0.
func (c *Client) ListImages(ctx context.Context, name string, most int) iter.Seq2[Object[vm.Image], error] {
	return list[vm.Image](ctx, c, "/api/v1/images", url.Values{"name": {name}}, most)
}

// GetImage reads an image.
func (c *Client) GetImage(ctx context.Context, id uuid.UUID) (Object[vm.Image], error) {
	return get[vm.Image](ctx, c, "/api/v1/images/"+id.String())
}

// DeleteImage deletes an image.
func (c *Client) DeleteImage(ctx context.Context, id uuid.UUID) error {
	return c.json(ctx, call{method: http.MethodDelete, path: "/api/v1/images/" + id.String()}, nil)
}

// AwaitImage waits until an image is imported, and tells of the operation at work. It fails with an *Error where the import has.
func (c *Client) AwaitImage(ctx context.Context, image Object[vm.Image], changed func(Object[Operation])) (Object[vm.Image], error) {
	for {
		switch v := image.Value; {
		case v.Status == vm.ImageFailed && v.Error != nil:
			return image, &Error{Problem: *v.Error}
		case v.Status == vm.ImageFailed:
			return image, protocolError("the import of the image failed")
		case v.Status != vm.ImageImporting:
			return image, nil
		case v.OperationID != nil:
			op, err := c.FollowOperation(ctx, *v.OperationID, changed)
			if err == nil {
				err = op.Value.Err()
			}
			if err != nil {
				return image, err
			}
		default:
			if err := sleep(ctx, pollPause); err != nil {
				return image, ended(ctx)
			}
		}
		var err error
		if image, err = c.GetImage(ctx, image.Value.ID); err != nil {
			return image, err
		}
	}
}

// pollPause is the pause between two looks at what tells nothing by itself.
const pollPause = 500 * time.Millisecond
