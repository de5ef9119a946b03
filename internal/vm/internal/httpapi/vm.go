package httpapi

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/httpx/idempotent"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/service"
)

type VMPath struct {
	ID uuid.UUID `path:"id" format:"uuid" doc:"Id of the virtual machine."`
}

type VMCreate struct {
	Name           string       `json:"name" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" patternDescription:"RFC 1123 label" maxLength:"63" doc:"RFC 1123 label, unique in the tenant." example:"web-1"`
	HypervisorType string       `json:"hypervisor_type,omitempty" enum:"kvm" default:"kvm" doc:"What runs it."`
	TemplateID     *uuid.UUID   `json:"template_id,omitempty" format:"uuid" doc:"Template that gives what is left out here."`
	ImageID        uuid.UUID    `json:"image_id,omitempty" format:"uuid" doc:"Image that its root disk is made from. Required where no template gives it."`
	Flavor         string       `json:"flavor,omitempty" maxLength:"63" doc:"Named size; resources override its parts." example:"small"`
	Resources      *VMResources `json:"resources,omitempty"`
	Networks       []VMNetwork  `json:"networks,omitempty" maxItems:"8" doc:"One interface on each; none means the tenant's default network."`
	SSHKeys        []string     `json:"ssh_keys,omitempty" maxItems:"64" doc:"For the default user, through cloud-init: public keys as in authorized_keys, and names or ids of SSH keys of the tenant."`
	UserData       string       `json:"user_data,omitempty" maxLength:"65536" doc:"cloud-init user-data, of a kind that cloud-init knows by its beginning: #cloud-config, #!, #include, a MIME message and so on." example:"#cloud-config\nruncmd: [\"echo hello\"]"`
	vm.CloudInit
	Tags             map[string]string `json:"tags,omitempty" maxProperties:"64" doc:"Free labels."`
	Description      string            `json:"description,omitempty" maxLength:"1024" doc:"For people."`
	DeleteProtection bool              `json:"delete_protection,omitempty" doc:"Refuse to delete it until this is taken back."`
	CDROMImageID     *uuid.UUID        `json:"cdrom_image_id,omitempty" format:"uuid" doc:"ISO image to put into its drive. Where image_id is an ISO image, that one is in the drive and the root disk is empty."`
	DirectBoot       *vm.DirectBoot    `json:"direct_boot,omitempty" doc:"Kernel and initrd to start it with; {} boots from disks, whatever the template says."`
	BootOrder        []string          `json:"boot_order,omitempty" maxItems:"16" doc:"Of 'root', 'cdrom' and 'network', the first first; none: root, then what is in the drive."`
	vm.Hardware
	Start *bool `json:"start,omitempty" default:"true" doc:"Power it on once it is made."`
}

type VMResources struct {
	VCPUs     int   `json:"vcpus,omitempty" minimum:"1" maximum:"1024" example:"1"`
	MemoryMiB int64 `json:"memory_mib,omitempty" minimum:"32" maximum:"16777216" example:"512"`
	DiskGiB   int64 `json:"disk_gib,omitempty" minimum:"1" maximum:"65536" doc:"Size of the root disk; at least the image's." example:"5"`
}

func (b VMCreate) request() (vm.CreateVMRequest, error) {
	req := vm.CreateVMRequest{Name: b.Name, HypervisorType: b.HypervisorType, TemplateID: b.TemplateID, ImageID: b.ImageID, Flavor: b.Flavor, SSHKeys: b.SSHKeys,
		UserData: b.UserData, CloudInit: b.CloudInit, Tags: b.Tags, Stopped: b.Start != nil && !*b.Start,
		Description: b.Description, DeleteProtection: b.DeleteProtection, CDROM: b.CDROMImageID, BootOrder: b.BootOrder, Hardware: b.Hardware}
	if b.DirectBoot != nil {
		req.DirectBoot, req.DiskBoot = *b.DirectBoot, *b.DirectBoot == vm.DirectBoot{}
	}
	if b.Resources != nil {
		req.Resources = vm.Resources{VCPUs: b.Resources.VCPUs, MemoryMiB: b.Resources.MemoryMiB, DiskGiB: b.Resources.DiskGiB}
	}
	for _, n := range b.Networks {
		req.Interfaces = append(req.Interfaces, n.request())
	}
	for key, value := range b.Tags {
		if len(key) == 0 || len(key) > 128 || len(value) > 256 {
			return req, vm.ErrInvalid.WithField("body.tags", "keys have 1 to 128 and values at most 256 bytes", key)
		}
	}
	for i, key := range b.SSHKeys {
		if len(key) == 0 || len(key) > 16384 {
			return req, vm.ErrInvalid.WithField(fmt.Sprintf("body.ssh_keys[%d]", i), "must have 1 to 16384 bytes", "")
		}
	}
	return req, nil
}

func (a *API) registerVMs(kit *httpx.API) {
	a.registerVMList(kit)
	a.registerEdits(kit)
	type createInput struct {
		WaitParams
		Body VMCreate
	}
	httpx.Handle(kit, httpx.Op{ID: "vm-create", Method: http.MethodPost, Path: "/api/v1/vms", Permission: "vm:create", Owned: true,
		Summary: "Create a virtual machine", Tag: "vms", Status: http.StatusAccepted,
		Description: "Reserves a place for it, then makes disk, seed and domain and powers it on. Answers with the operation that does so. " +
			"What does not fit is refused at once, with the reason for each node.",
		Errors: []*errs.Error{vm.ErrInvalid, vm.ErrNameTaken, vm.ErrTemplateNotFound, vm.ErrImageNotFound, vm.ErrImageFailed, vm.ErrImageKind, vm.ErrImageUploading, vm.ErrNetworkNotFound, vm.ErrGroupNotFound, vm.ErrInterfaceInvalid, vm.ErrInterfaceMAC, vm.ErrAddressTaken, vm.ErrAddressesAreUsed, scheduler.ErrNoFit, scheduler.ErrQuotaExceeded}},
		func(ctx context.Context, in *createInput) (*accepted, error) {
			req, err := in.Body.request()
			if err != nil {
				return nil, err
			}
			req.IdempotencyKey = idempotent.Key(ctx)
			op, err := a.svc.Create(ctx, req)
			if err != nil {
				return nil, err
			}
			return a.answer(ctx, op, in.WaitParams)
		})

	type getInput struct{ VMPath }
	type getOutput struct {
		ETag string `header:"ETag"`
		Body vm.VM
	}
	httpx.Handle(kit, httpx.Op{ID: "vm-get", Method: http.MethodGet, Path: "/api/v1/vms/{id}", Permission: "vm:read", Owned: true,
		Summary: "Read a virtual machine", Tag: "vms", Errors: []*errs.Error{vm.ErrNotFound}},
		func(ctx context.Context, in *getInput) (*getOutput, error) {
			machine, err := a.svc.Get(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			return &getOutput{ETag: etag(machine), Body: machine}, nil
		})

	type deleteInput struct {
		VMPath
		WaitParams
		IfMatch       string `header:"If-Match" maxLength:"128" doc:"The ETag of the version that is to be deleted."`
		DeleteVolumes bool   `query:"delete_volumes" doc:"Delete the attached volumes, too; needs volume:delete. They are only detached otherwise."`
	}
	httpx.Handle(kit, httpx.Op{ID: "vm-delete", Method: http.MethodDelete, Path: "/api/v1/vms/{id}", Permission: "vm:delete", Owned: true,
		Summary: "Delete a virtual machine with its disks and snapshots, in whatever state it is", Tag: "vms", Status: http.StatusAccepted,
		Description: "Volumes that are attached to it are detached and stay, unless delete_volumes is set.", Errors: []*errs.Error{vm.ErrNotFound, vm.ErrProtected, vm.ErrVersion}},
		func(ctx context.Context, in *deleteInput) (*accepted, error) {
			op, err := a.svc.Delete(ctx, service.Request{VMID: in.ID, DeleteVolumes: in.DeleteVolumes,
				IfMatch: func(m vm.VM) bool { return matches(in.IfMatch, etag(m)) }})
			if err != nil {
				return nil, err
			}
			return a.answer(ctx, op, in.WaitParams)
		})
}

// etag changes with every change of the row.
func etag(machine vm.VM) string {
	return fmt.Sprintf(`"%d-%x"`, machine.Generation, machine.UpdatedAt.UnixMicro())
}

type VMStop struct {
	Force        bool `json:"force,omitempty" doc:"Power off at once."`
	GraceSeconds *int `json:"grace_seconds,omitempty" minimum:"0" maximum:"3600" doc:"How long the guest may take to shut down before it is powered off."`
}

// request asks for a change of state that shuts a guest down.
func (b *VMStop) request(ctx context.Context, id uuid.UUID) service.Request {
	req := service.Request{VMID: id, IdempotencyKey: idempotent.Key(ctx)}
	if b != nil {
		req.Force, req.Grace = b.Force, seconds(b.GraceSeconds)
	}
	return req
}

// registerActions puts one POST route for each change of state.
func (a *API) registerActions(kit *httpx.API) {
	type plainInput struct {
		VMPath
		WaitParams
	}
	type stopInput struct {
		VMPath
		WaitParams
		Body *VMStop `required:"false"`
	}
	for _, action := range []struct {
		verb, permission, summary string
		call                      func(context.Context, service.Request) (operation.Operation, error)
		errors                    []*errs.Error
	}{
		{"start", "vm:start", "Power a virtual machine on", a.svc.Start, nil},
		{"reset", "vm:restart", "Press the reset button of a virtual machine", a.svc.Reset, nil},
		{"pause", "vm:pause", "Hold the virtual CPUs of a virtual machine", a.svc.Pause, nil},
		{"resume", "vm:pause", "Let the virtual CPUs of a paused virtual machine go on", a.svc.Resume, nil},
		{"suspend", "vm:pause", "Save the memory of a virtual machine to disk and power it off; start goes on from there", a.svc.Suspend, []*errs.Error{vm.ErrRescued}},
	} {
		httpx.Handle(kit, httpx.Op{ID: "vm-" + action.verb, Method: http.MethodPost, Path: "/api/v1/vms/{id}/" + action.verb, Permission: action.permission, Owned: true,
			Summary: action.summary, Tag: "vms", Status: http.StatusAccepted, Errors: append([]*errs.Error{vm.ErrNotFound, vm.ErrWrongState}, action.errors...)},
			func(ctx context.Context, in *plainInput) (*accepted, error) {
				op, err := action.call(ctx, service.Request{VMID: in.ID, IdempotencyKey: idempotent.Key(ctx)})
				if err != nil {
					return nil, err
				}
				return a.answer(ctx, op, in.WaitParams)
			})
	}
	for _, action := range []struct {
		verb, permission, summary string
		call                      func(context.Context, service.Request) (operation.Operation, error)
	}{
		{"stop", "vm:stop", "Shut a virtual machine down; power it off when the grace time is over", a.svc.Stop},
		{"restart", "vm:restart", "Shut a virtual machine down and power it on again", a.svc.Restart},
	} {
		httpx.Handle(kit, httpx.Op{ID: "vm-" + action.verb, Method: http.MethodPost, Path: "/api/v1/vms/{id}/" + action.verb, Permission: action.permission, Owned: true,
			Summary: action.summary, Tag: "vms", Status: http.StatusAccepted, Errors: []*errs.Error{vm.ErrNotFound, vm.ErrWrongState}},
			func(ctx context.Context, in *stopInput) (*accepted, error) {
				op, err := action.call(ctx, in.Body.request(ctx, in.ID))
				if err != nil {
					return nil, err
				}
				return a.answer(ctx, op, in.WaitParams)
			})
	}
}
