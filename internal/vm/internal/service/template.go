package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

func templateInvalid(field, why, value string) error {
	return vm.ErrTemplateInvalid.WithField(field, why, value)
}

// TemplateRequest says what template to make.
type TemplateRequest struct {
	Name, Description string
	Visibility        vm.Visibility
	Spec              vm.TemplateSpec
	VMID              *uuid.UUID // take the spec from this virtual machine instead
}

// CreateTemplate makes a template.
func (s *Service) CreateTemplate(ctx context.Context, req TemplateRequest) (vm.Template, error) {
	if err := checkName(req.Name, templateInvalid); err != nil {
		return vm.Template{}, err
	}
	if req.VMID != nil {
		r, err := s.record(ctx, *req.VMID)
		if err != nil {
			return vm.Template{}, named(ctx, err, vm.ErrNotFound, "vm:read")
		}
		if req.Spec, err = s.specOf(ctx, r); err != nil {
			return vm.Template{}, err
		}
	} else if err := s.checkSpec(ctx, &req.Spec); err != nil {
		return vm.Template{}, err
	}
	if req.Visibility == vm.Public {
		if err := mayPublish(ctx, req.Spec); err != nil {
			return vm.Template{}, err
		}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return vm.Template{}, fmt.Errorf("make id: %w", err)
	}
	p := caller(ctx)
	return s.store.CreateTemplate(ctx, vm.Template{ID: id, TenantID: &p.TenantID, OwnerID: &p.UserID, Name: req.Name, Description: req.Description,
		Visibility: req.Visibility, Spec: req.Spec})
}

// mayPublish tells whether the caller may show a template to everybody: who may, and what others could not use.
func mayPublish(ctx context.Context, spec vm.TemplateSpec) error {
	for _, n := range spec.Networks {
		if n.NetworkID != nil || n.SecurityGroups != nil {
			return templateInvalid("body.visibility", "a template for everybody names no networks or security groups: they are one tenant's", string(vm.Public))
		}
	}
	return platformOnly(ctx, "template:publish")
}

func wanted(n vm.TemplateInterface) vm.InterfaceRequest {
	var req vm.InterfaceRequest
	if n.NetworkID != nil {
		req.NetworkID = *n.NetworkID
	}
	if n.SecurityGroups != nil {
		req.SecurityGroups = append([]uuid.UUID{}, *n.SecurityGroups...)
	}
	req.Down = n.Link == vm.LinkDown
	if n.Bandwidth != nil {
		req.Bandwidth = *n.Bandwidth
	}
	return req
}

// specOf is what makes another virtual machine like this one. Its own are addresses, with the network-config that may name them, volumes, host name
// and password: a template shows all that it has.
func (s *Service) specOf(ctx context.Context, r store.Record) (vm.TemplateSpec, error) {
	spec := vm.TemplateSpec{HypervisorType: r.HypervisorType, ImageID: &r.ImageID, Flavor: r.Flavor, SSHKeys: r.SSHKeys, UserData: r.UserData, VendorData: r.CloudInit.VendorData, Tags: r.Tags,
		Resources:        &vm.TemplateResources{VCPUs: r.Resources.VCPUs, MemoryMiB: r.Resources.MemoryMiB, DiskGiB: r.Resources.DiskGiB},
		DeleteProtection: r.DeleteProtection}
	for _, nic := range r.Networks {
		groups := nic.SecurityGroups
		spec.Networks = append(spec.Networks, vm.TemplateInterface{NetworkID: &nic.NetworkID, SecurityGroups: &groups, Link: nic.Link, Bandwidth: nic.Bandwidth})
	}
	a, c, dog := r.Autostart, r.CPU, r.Watchdog
	spec.Hardware = vm.Hardware{Autostart: &vm.AutostartChange{Enabled: &a.Enabled, Order: &a.Order, DelaySeconds: &a.DelaySeconds}, CPU: &c, Watchdog: &dog}
	if l, ok := r.IOLimits[rootDisk]; ok {
		spec.IOLimits = map[string]vm.IOLimits{rootDisk: l}
	}
	if d := r.DirectBoot; d != (vm.DirectBoot{}) {
		spec.DirectBoot = &d
	}
	image, err := s.store.GetImage(ctx, r.ImageID)
	if err != nil {
		return spec, err
	}
	if image.Kind != vm.ImageISO { // an ISO image is in the drive without being named
		spec.CDROMImageID = r.CDROM.ImageID
	}
	drive := image.Kind == vm.ImageISO || spec.CDROMImageID != nil
	for _, name := range r.BootOrder {
		if name == rootDisk || name == nodeapi.BootNetwork || name == nodeapi.BootCDROM && drive {
			spec.BootOrder = append(spec.BootOrder, name)
		}
	}
	return spec, nil
}

// checkSpec checks what a template names as far as that can be said before it is used, and replaces SSH keys by what they are now.
func (s *Service) checkSpec(ctx context.Context, spec *vm.TemplateSpec) error {
	if spec.ImageID != nil {
		image, err := s.GetImage(ctx, *spec.ImageID)
		switch {
		case err != nil:
			return named(ctx, err, vm.ErrImageNotFound, "image:read")
		case image.Kind == vm.ImageKernel || image.Kind == vm.ImageInitrd:
			return vm.ErrImageKind.WithField("body.spec.image_id", "must be an image of kind disk or iso", image.ID.String())
		case image.Kind == vm.ImageISO && spec.CDROMImageID != nil && *spec.CDROMImageID != image.ID:
			return templateInvalid("body.spec.cdrom_image_id", "the drive holds the ISO image of image_id already", spec.CDROMImageID.String())
		}
	}
	if err := s.checkMedia(ctx, &vm.Settings{}, mediaIn(spec), "body.spec.", vm.ErrTemplateInvalid); err != nil {
		return err
	}
	if err := checkTemplateHardware(spec); err != nil {
		return err
	}
	if spec.Flavor != "" {
		if _, err := s.flavorNamed(ctx, spec.Flavor, "body.spec.flavor", vm.ErrTemplateInvalid); err != nil {
			return err
		}
	}
	if err := checkUserData(spec.UserData, "body.spec.user_data", vm.ErrTemplateInvalid); err != nil {
		return err
	}
	if err := checkUserData(spec.VendorData, "body.spec.vendor_data", vm.ErrTemplateInvalid); err != nil {
		return err
	}
	config, err := checkNetworkConfig(spec.NetworkConfig, "body.spec.network_config", vm.ErrTemplateInvalid)
	if err != nil {
		return err
	}
	spec.NetworkConfig = config
	for i, n := range spec.Networks {
		if n.NetworkID == nil { // the default network of whoever uses the template
			continue
		}
		if _, err := s.newInterface(ctx, wanted(n), fmt.Sprintf("body.spec.networks[%d].", i)); err != nil {
			return err
		}
	}
	keys, err := s.publicKeys(ctx, spec.SSHKeys, "body.spec.ssh_keys", vm.ErrTemplateInvalid)
	spec.SSHKeys = keys
	return err
}

// mediaIn are the images that a template names beside that of the root disk.
func mediaIn(spec *vm.TemplateSpec) *vm.Settings {
	media := vm.Settings{CDROM: vm.CDROM{ImageID: spec.CDROMImageID}}
	if spec.DirectBoot != nil {
		media.DirectBoot = *spec.DirectBoot
	}
	return &media
}

// checkTemplateHardware checks what can be said before size and networks are known.
func checkTemplateHardware(spec *vm.TemplateSpec) error {
	bad := vm.ErrTemplateInvalid
	for i, name := range spec.BootOrder {
		at := fmt.Sprintf("body.spec.boot_order[%d]", i)
		if name != rootDisk && name != nodeapi.BootCDROM && name != nodeapi.BootNetwork {
			bad = bad.WithField(at, "is none of 'root', 'cdrom' and 'network'", name)
		}
		if slices.Contains(spec.BootOrder[:i], name) {
			bad = bad.WithField(at, "is named twice", name)
		}
	}
	for disk := range spec.IOLimits {
		if disk != rootDisk {
			bad = bad.WithField("body.spec.io_limits", "can only name 'root'", disk)
		}
	}
	if c := spec.CPU; c != nil && c.Count() == 0 && c.Sockets+c.Cores+c.Threads > 0 {
		bad = bad.WithField("body.spec.cpu", "sockets, cores and threads go together: all three, or none", "")
	}
	if len(bad.Fields) > 0 {
		return bad
	}
	return nil
}

// GetTemplate reads a template that the caller may know.
func (s *Service) GetTemplate(ctx context.Context, id uuid.UUID) (vm.Template, error) {
	t, err := s.store.GetTemplate(ctx, id)
	if err == nil && t.Visibility != vm.Public && !readable(ctx, *t.TenantID, *t.OwnerID, "template:read") {
		return vm.Template{}, vm.ErrTemplateNotFound
	}
	return shownTo(ctx, t), err
}

// shownTo hides from strangers whose template it is.
func shownTo(ctx context.Context, t vm.Template) vm.Template {
	if t.TenantID != nil && !visible(ctx, *t.TenantID, "template:read") {
		t.TenantID, t.OwnerID = nil, nil
	}
	return t
}

// ListTemplates lists the templates of the caller's tenant and those that everybody may use, newest first.
func (s *Service) ListTemplates(ctx context.Context, name string, visibility vm.Visibility, after *httpx.Cursor, limit int) ([]vm.Template, error) {
	p := caller(ctx)
	f := store.TemplateFilter{TenantID: p.TenantID, OwnerID: p.OwnerFilter("template:read"), Name: name, Visibility: visibility, Limit: limit}
	f.Before, f.BeforeID = position(after)
	list, err := s.store.ListTemplates(ctx, f)
	for i := range list {
		list[i] = shownTo(ctx, list[i])
	}
	return list, err
}

// templateTo reads a template to which the caller may do what permission names.
func (s *Service) templateTo(ctx context.Context, id uuid.UUID, permission string) (vm.Template, error) {
	t, err := s.store.GetTemplate(ctx, id)
	if err == nil {
		err = permitted(ctx, *t.TenantID, *t.OwnerID, permission, "template:read", vm.ErrTemplateNotFound)
	}
	return t, err
}

// UpdateTemplate changes a template; the spec is replaced as a whole.
func (s *Service) UpdateTemplate(ctx context.Context, id uuid.UUID, c store.TemplateChange) (vm.Template, error) {
	t, err := s.templateTo(ctx, id, "template:update")
	if err != nil {
		return vm.Template{}, err
	}
	if c.Name != nil {
		if err := checkName(*c.Name, templateInvalid); err != nil {
			return vm.Template{}, err
		}
	}
	after := t
	if c.Visibility != nil {
		after.Visibility = *c.Visibility
	}
	if c.Spec != nil {
		after.Spec = *c.Spec
	}
	if after.Visibility == vm.Public && (t.Visibility != vm.Public || c.Spec != nil) { // what everybody is given anew, somebody must answer for
		if err := mayPublish(ctx, after.Spec); err != nil {
			return vm.Template{}, err
		}
	}
	if c.Spec != nil {
		if err := s.checkSpec(ctx, c.Spec); err != nil {
			return vm.Template{}, err
		}
	}
	return s.store.UpdateTemplate(ctx, id, c)
}

// DeleteTemplate removes a template; seen is the version that the caller has seen, nil any. Virtual machines that were made by it stay as they are.
func (s *Service) DeleteTemplate(ctx context.Context, id uuid.UUID, seen *int64) error {
	if _, err := s.templateTo(ctx, id, "template:delete"); err != nil {
		return err
	}
	return s.store.DeleteTemplate(ctx, id, seen)
}

// fromTemplate fills what a request leaves out with what its template gives. A flavor in the request also leaves out the template's sizes; tags are
// put together.
func (s *Service) fromTemplate(ctx context.Context, req vm.CreateVMRequest) (vm.CreateVMRequest, error) {
	if req.TemplateID == nil {
		return req, nil
	}
	t, err := s.GetTemplate(ctx, *req.TemplateID)
	if err != nil {
		return req, named(ctx, err, vm.ErrTemplateNotFound, "template:read")
	}
	spec := t.Spec
	if err := s.checkTemplateImages(ctx, req, &spec); err != nil {
		return req, err
	}
	if req.HypervisorType == "" {
		req.HypervisorType = spec.HypervisorType
	}
	if req.ImageID == uuid.Nil && spec.ImageID != nil {
		req.ImageID = *spec.ImageID
	}
	if req.Flavor == "" {
		req.Flavor = spec.Flavor
		if r := spec.Resources; r != nil {
			given := req.Resources
			req.Resources = vm.Resources{VCPUs: r.VCPUs, MemoryMiB: r.MemoryMiB, DiskGiB: r.DiskGiB}
			override(&req.Resources, given)
		}
	}
	if len(req.Interfaces) == 0 {
		for _, n := range spec.Networks {
			req.Interfaces = append(req.Interfaces, wanted(n))
		}
	}
	if len(req.SSHKeys) == 0 {
		req.SSHKeys = spec.SSHKeys
	}
	if req.UserData == "" {
		req.UserData = spec.UserData
	}
	if req.CloudInit.VendorData == "" {
		req.CloudInit.VendorData = spec.VendorData
	}
	if req.CloudInit.NetworkConfig == "" {
		req.CloudInit.NetworkConfig = spec.NetworkConfig
	}
	if req.CDROM == nil {
		req.CDROM = spec.CDROMImageID
	}
	if spec.DirectBoot != nil {
		req.DirectBoot = *spec.DirectBoot
	}
	if req.BootOrder == nil {
		req.BootOrder = spec.BootOrder
	}
	req.Hardware = req.Hardware.Over(spec.Hardware)
	tags := maps.Clone(spec.Tags)
	if tags == nil {
		tags = map[string]string{}
	}
	maps.Copy(tags, req.Tags)
	req.Tags = tags
	req.DeleteProtection = req.DeleteProtection || spec.DeleteProtection
	return req, nil
}

// checkTemplateImages says which image of a template whoever uses it cannot have: it may have been deleted since, or be somebody else's. What the
// request gives instead is taken out of the template first.
func (s *Service) checkTemplateImages(ctx context.Context, req vm.CreateVMRequest, spec *vm.TemplateSpec) error {
	if req.ImageID != uuid.Nil {
		spec.ImageID = nil
		image, err := s.GetImage(ctx, req.ImageID)
		if err != nil {
			return named(ctx, err, vm.ErrImageNotFound, "image:read")
		}
		if image.Kind == vm.ImageISO { // it takes the drive
			spec.CDROMImageID = nil
		}
	}
	if req.CDROM != nil {
		spec.CDROMImageID = nil
	}
	if req.DiskBoot || req.DirectBoot != (vm.DirectBoot{}) {
		spec.DirectBoot = nil
	}
	for _, slot := range append([]mediaSlot{{field: "image_id", id: spec.ImageID}}, mediaSlots(mediaIn(spec))...) {
		if slot.id == nil {
			continue
		}
		_, err := s.GetImage(ctx, *slot.id)
		if errors.Is(err, vm.ErrImageNotFound) {
			err = vm.ErrImageNotFound.WithMessage("the template names an image that is not there any more, or that you may not use").
				WithAction("Name another one in the request, or change the template.").WithField("template.spec."+slot.field, "there is no such image", slot.id.String())
		}
		if err != nil {
			return named(ctx, err, vm.ErrImageNotFound, "image:read")
		}
	}
	return nil
}

// override replaces the parts of a size that are given.
func override(r *vm.Resources, given vm.Resources) {
	if given.VCPUs != 0 {
		r.VCPUs = given.VCPUs
	}
	if given.MemoryMiB != 0 {
		r.MemoryMiB = given.MemoryMiB
	}
	if given.DiskGiB != 0 {
		r.DiskGiB = given.DiskGiB
	}
}
