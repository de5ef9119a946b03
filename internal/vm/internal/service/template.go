package service

import (
	"context"
	"fmt"
	"maps"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/vm"
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
		req.Spec = specOf(r)
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
	return req
}

// specOf is what makes another virtual machine like this one. Addresses are its own.
func specOf(r store.Record) vm.TemplateSpec {
	spec := vm.TemplateSpec{HypervisorType: r.HypervisorType, ImageID: &r.ImageID, Flavor: r.Flavor, SSHKeys: r.SSHKeys, UserData: r.UserData, VendorData: r.CloudInit.VendorData, Tags: r.Tags,
		Resources:        &vm.TemplateResources{VCPUs: r.Resources.VCPUs, MemoryMiB: r.Resources.MemoryMiB, DiskGiB: r.Resources.DiskGiB},
		DeleteProtection: r.DeleteProtection}
	for _, nic := range r.Networks {
		groups := nic.SecurityGroups
		spec.Networks = append(spec.Networks, vm.TemplateInterface{NetworkID: &nic.NetworkID, SecurityGroups: &groups})
	}
	return spec
}

// checkSpec checks what a template names as far as that can be said before it is used, and replaces SSH keys by what they are now.
func (s *Service) checkSpec(ctx context.Context, spec *vm.TemplateSpec) error {
	if spec.ImageID != nil {
		if _, err := s.GetImage(ctx, *spec.ImageID); err != nil {
			return named(ctx, err, vm.ErrImageNotFound, "image:read")
		}
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

// DeleteTemplate removes a template. Virtual machines that were made by it stay as they are.
func (s *Service) DeleteTemplate(ctx context.Context, id uuid.UUID) error {
	if _, err := s.templateTo(ctx, id, "template:delete"); err != nil {
		return err
	}
	return s.store.DeleteTemplate(ctx, id)
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
	tags := maps.Clone(spec.Tags)
	if tags == nil {
		tags = map[string]string{}
	}
	maps.Copy(tags, req.Tags)
	req.Tags = tags
	req.DeleteProtection = req.DeleteProtection || spec.DeleteProtection
	return req, nil
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
