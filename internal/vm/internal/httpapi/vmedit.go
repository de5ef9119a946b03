package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/httpx/idempotent"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/service"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// VMPatch changes what it names and leaves the rest.
type VMPatch struct {
	Name             *string                `json:"name,omitempty" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" patternDescription:"RFC 1123 label" maxLength:"63" doc:"RFC 1123 label, unique in the tenant. The guest learns of it only where cloud-init runs anew."`
	Description      *string                `json:"description,omitempty" maxLength:"1024"`
	Tags             map[string]*string     `json:"tags,omitempty" maxProperties:"64" doc:"Tags to set; null removes one, what is not named stays."`
	DeleteProtection *bool                  `json:"delete_protection,omitempty"`
	Autostart        *vm.AutostartChange    `json:"autostart,omitempty"`
	CPU              *vm.CPU                `json:"cpu,omitempty" doc:"Replaces model and topology; taken up at the next start from off."`
	IOLimits         map[string]vm.IOLimits `json:"io_limits,omitempty" maxProperties:"16" doc:"Limits of the disks that are named; all 0 removes them. Taken up at once."`
	Watchdog         *vm.Watchdog           `json:"watchdog,omitempty" doc:"Taken up at the next start from off."`
	BootOrder        *[]string              `json:"boot_order,omitempty" maxItems:"16" doc:"Taken up at the next start from off."`
	DirectBoot       *vm.DirectBoot         `json:"direct_boot,omitempty" doc:"Replaces kernel, initrd and command line; {} boots from disks again. Taken up at the next start from off."`
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// watch sets a watchdog.
func watch(to, from *vm.Watchdog) {
	if from != nil {
		*to = from.Or()
	}
}

func (b VMPatch) apply(e *store.Edited) {
	set(&e.Name, b.Name)
	set(&e.Description, b.Description)
	for key, value := range b.Tags {
		if value == nil {
			delete(e.Tags, key)
		} else {
			e.Tags[key] = *value
		}
	}
	set(&e.Settings.DeleteProtection, b.DeleteProtection)
	b.Autostart.Apply(&e.Settings.Autostart)
	set(&e.Settings.CPU, b.CPU)
	for disk, l := range b.IOLimits {
		e.Settings.IOLimits[disk] = l
		if l == (vm.IOLimits{}) {
			delete(e.Settings.IOLimits, disk)
		}
	}
	watch(&e.Settings.Watchdog, b.Watchdog)
	set(&e.Settings.BootOrder, b.BootOrder)
	set(&e.Settings.DirectBoot, b.DirectBoot)
}

// VMPut replaces all that can be edited; what is left out gets its default.
type VMPut struct {
	Name             string                 `json:"name" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" patternDescription:"RFC 1123 label" maxLength:"63"`
	Description      string                 `json:"description,omitempty" maxLength:"1024"`
	Tags             map[string]string      `json:"tags,omitempty" maxProperties:"64"`
	DeleteProtection bool                   `json:"delete_protection,omitempty"`
	Autostart        *vm.AutostartChange    `json:"autostart,omitempty"`
	CPU              vm.CPU                 `json:"cpu,omitempty" required:"false"`
	IOLimits         map[string]vm.IOLimits `json:"io_limits,omitempty" maxProperties:"16"`
	Watchdog         *vm.Watchdog           `json:"watchdog,omitempty"`
	BootOrder        []string               `json:"boot_order,omitempty" maxItems:"16"`
	DirectBoot       *vm.DirectBoot         `json:"direct_boot,omitempty"`
	VMFixed
	VMMoving
}

func (b VMPut) apply(e *store.Edited) {
	settings := vm.DefaultSettings()
	settings.DeleteProtection, settings.CPU = b.DeleteProtection, b.CPU
	b.Autostart.Apply(&settings.Autostart)
	watch(&settings.Watchdog, b.Watchdog)
	for disk, l := range b.IOLimits {
		if l != (vm.IOLimits{}) {
			settings.IOLimits[disk] = l
		}
	}
	if b.BootOrder != nil {
		settings.BootOrder = b.BootOrder
	}
	set(&settings.DirectBoot, b.DirectBoot)
	settings.CDROM = e.Settings.CDROM // what is in the drive has routes of its own
	tags := b.Tags
	if tags == nil {
		tags = map[string]string{}
	}
	*e = store.Edited{Name: b.Name, Description: b.Description, Tags: tags, Settings: settings}
}

// followTime is how long an edit waits for the node to follow.
const followTime = 20 * time.Second

// VMEdit names the machine and the version of it that are to be changed.
type VMEdit struct {
	VMPath
	IfMatch string `header:"If-Match" maxLength:"128" doc:"The ETag of the version that is to be changed."`
}

func (e VMEdit) same(m vm.VM) bool { return matches(e.IfMatch, etag(m)) }

func (a *API) registerEdits(kit *httpx.API) {
	type patchInput struct {
		VMEdit
		Body VMPatch
	}
	type putInput struct {
		VMEdit
		Body VMPut
	}
	type output struct {
		ETag string `header:"ETag"`
		Body vm.VM
	}
	shown := func(machine vm.VM, err error) (*output, error) {
		if err != nil {
			return nil, err
		}
		return &output{ETag: etag(machine), Body: machine}, nil
	}
	edit := func(ctx context.Context, in VMEdit, change func(*store.Edited)) (*output, error) {
		return shown(a.svc.Update(ctx, in.ID, in.same, followTime, change))
	}
	failures := []*errs.Error{vm.ErrNotFound, vm.ErrInvalid, vm.ErrNameTaken, vm.ErrLocked, vm.ErrVersion, nodeapi.ErrHardware}
	const about = " The answer waits until the node has followed; what the guest takes up only when it is powered on from off is listed in pending. " +
		"A machine in state error can be edited."
	httpx.Handle(kit, httpx.Op{ID: "vm-update", Method: http.MethodPatch, Path: "/api/v1/vms/{id}", Permission: "vm:update", Owned: true,
		Summary: "Change a virtual machine: name, description, tags, protection, autostart, processor, limits, watchdog, boot order", Tag: "vms",
		Description: "Changes what the body names." + about, Errors: failures},
		func(ctx context.Context, in *patchInput) (*output, error) { return edit(ctx, in.VMEdit, in.Body.apply) })
	httpx.Handle(kit, httpx.Op{ID: "vm-replace", Method: http.MethodPut, Path: "/api/v1/vms/{id}", Permission: "vm:update", Owned: true,
		Summary: "Replace all that can be edited of a virtual machine", Tag: "vms",
		Description: "What the body leaves out gets its default. It may be what GET answered, edited: what is read-only must be as it is, or is not looked at " +
			"where it changes by itself." + about, Errors: failures},
		func(ctx context.Context, in *putInput) (*output, error) { return shown(a.put(ctx, in.VMEdit, in.Body)) })

	type VMDisc struct {
		ImageID uuid.UUID `json:"image_id" format:"uuid" doc:"Image of kind iso."`
	}
	type discInput struct {
		VMEdit
		Body VMDisc
	}
	type ejectInput struct{ VMEdit }
	const disc = " A guest that runs sees it at once if it has a drive; one without gets its drive when it is powered on from off, and pending says so."
	held := append([]*errs.Error{vm.ErrImageNotFound, vm.ErrImageKind, vm.ErrImageFailed, vm.ErrCDROMHeld}, failures...)
	httpx.Handle(kit, httpx.Op{ID: "vm-cdrom-insert", Method: http.MethodPut, Path: "/api/v1/vms/{id}/cdrom", Permission: "vm:update", Owned: true,
		Summary: "Put an ISO image into the drive of a virtual machine, in place of what is in it", Tag: "vms",
		Description: "The answer waits until the node has followed." + disc, Errors: held},
		func(ctx context.Context, in *discInput) (*output, error) {
			return edit(ctx, in.VMEdit, func(e *store.Edited) { e.Settings.CDROM.ImageID = &in.Body.ImageID })
		})
	httpx.Handle(kit, httpx.Op{ID: "vm-cdrom-eject", Method: http.MethodDelete, Path: "/api/v1/vms/{id}/cdrom", Permission: "vm:update", Owned: true,
		Summary: "Take the disc out of the drive of a virtual machine", Tag: "vms", Status: http.StatusOK,
		Description: "The drive stays. A guest may keep it closed while the disc is mounted; then the disc stays in.", Errors: held},
		func(ctx context.Context, in *ejectInput) (*output, error) {
			return edit(ctx, in.VMEdit, func(e *store.Edited) { e.Settings.CDROM.ImageID = nil })
		})

	type VMResize struct {
		VCPUs     int    `json:"vcpus,omitempty" minimum:"1" maximum:"1024" example:"2"`
		MemoryMiB int64  `json:"memory_mib,omitempty" minimum:"32" maximum:"16777216" example:"1024"`
		Flavor    string `json:"flavor,omitempty" maxLength:"63" doc:"Instead of numbers: vCPUs, memory and the least size of the root disk, which grows where it is smaller. A flavor with a smaller disk is refused."`
	}
	type resizeInput struct {
		VMPath
		WaitParams
		Body VMResize
	}
	httpx.Handle(kit, httpx.Op{ID: "vm-resize", Method: http.MethodPost, Path: "/api/v1/vms/{id}/resize", Permission: "vm:update", Owned: true,
		Summary: "Change how many vCPUs and how much memory a virtual machine has, by numbers or a flavor, while it runs or not", Tag: "vms", Status: http.StatusAccepted,
		Description: "A guest that runs takes up at once what it can; the operation's result says which of the two it was, and the machine's pending " +
			"what it takes up only when it is powered on from off. What more is needed is reserved first and what is not needed any more given back last. " +
			"A machine that is resized by a flavor is of that flavor from then on; by numbers, of none.",
		Errors: []*errs.Error{vm.ErrNotFound, vm.ErrInvalid, vm.ErrLocked, vm.ErrWrongState, vm.ErrRescued, scheduler.ErrNoFit, scheduler.ErrQuotaExceeded}},
		func(ctx context.Context, in *resizeInput) (*accepted, error) {
			op, err := a.svc.Resize(ctx, service.ResizeRequest{VMID: in.ID, VCPUs: in.Body.VCPUs, MemoryMiB: in.Body.MemoryMiB,
				Flavor: in.Body.Flavor, IdempotencyKey: idempotent.Key(ctx)})
			if err != nil {
				return nil, err
			}
			return a.answer(ctx, op, in.WaitParams)
		})
}

// resultOf gives what an operation tells of itself beside its status.
func resultOf(op operation.Operation) *service.Resized {
	var result *service.Resized
	if op.Kind != store.KindResize || op.Status != operation.StatusSucceeded || json.Unmarshal(op.State, &result) != nil {
		return nil
	}
	return result
}
