package httpapi

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/service"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// NamedPage narrows the list of a catalog to one name.
type NamedPage struct {
	httpx.PageParams
	Name string `query:"name" maxLength:"63" doc:"Only the one of this name."`
}

func (a *API) registerFlavors(kit *httpx.API) {
	const all, one = "/api/v1/flavors", "/api/v1/flavors/{id}"
	type Path struct {
		ID uuid.UUID `path:"id" format:"uuid" doc:"Id of the flavor."`
	}
	type FlavorResources struct {
		VCPUs     int   `json:"vcpus" minimum:"1" maximum:"1024" example:"2"`
		MemoryMiB int64 `json:"memory_mib" minimum:"32" maximum:"16777216" example:"2048"`
		DiskGiB   int64 `json:"disk_gib" minimum:"1" maximum:"65536" doc:"Size of the root disk." example:"20"`
	}
	type FlavorCreate struct {
		Name        string          `json:"name" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" patternDescription:"RFC 1123 label" maxLength:"63" doc:"RFC 1123 label, unique in the installation." example:"web"`
		Description string          `json:"description,omitempty" maxLength:"1024"`
		Resources   FlavorResources `json:"resources"`
	}
	type output struct {
		Status   int
		Location string `header:"Location"`
		ETag     string `header:"ETag"`
		Body     vm.Flavor
	}
	shown := func(status int, f vm.Flavor) *output {
		out := &output{Status: status, ETag: versionTag(f.Version), Body: f}
		if status == http.StatusCreated {
			out.Location = all + "/" + f.ID.String()
		}
		return out
	}
	type listOutput struct{ Body httpx.Page[vm.Flavor] }
	httpx.Handle(kit, httpx.Op{ID: "flavor-list", Method: http.MethodGet, Path: all, Permission: "flavor:read",
		Summary: "List the named sizes, oldest first", Tag: "flavors", Errors: []*errs.Error{httpx.ErrCursor}},
		func(ctx context.Context, in *NamedPage) (*listOutput, error) {
			page, err := httpx.List(in.PageParams, func(f vm.Flavor) httpx.Cursor { return httpx.Cursor{CreatedAt: f.CreatedAt, ID: f.ID} },
				func(after *httpx.Cursor, limit int) ([]vm.Flavor, error) {
					return a.svc.ListFlavors(ctx, in.Name, after, limit)
				})
			return &listOutput{Body: page}, err
		})
	httpx.Handle(kit, httpx.Op{ID: "flavor-create", Method: http.MethodPost, Path: all, Permission: "flavor:create",
		Summary: "Create a named size for all tenants", Tag: "flavors", Status: http.StatusCreated, Description: "Needs the permission on the platform.",
		Errors: []*errs.Error{vm.ErrFlavorInvalid, vm.ErrFlavorTaken}},
		func(ctx context.Context, in *struct{ Body FlavorCreate }) (*output, error) {
			r := in.Body.Resources
			f, err := a.svc.CreateFlavor(ctx, in.Body.Name, in.Body.Description, vm.Resources{VCPUs: r.VCPUs, MemoryMiB: r.MemoryMiB, DiskGiB: r.DiskGiB})
			if err != nil {
				return nil, err
			}
			return shown(http.StatusCreated, f), nil
		})
	httpx.Handle(kit, httpx.Op{ID: "flavor-get", Method: http.MethodGet, Path: one, Permission: "flavor:read",
		Summary: "Read a named size", Tag: "flavors", Errors: []*errs.Error{vm.ErrFlavorNotFound}},
		func(ctx context.Context, in *Path) (*output, error) {
			f, err := a.svc.GetFlavor(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			return shown(http.StatusOK, f), nil
		})
	type FlavorResourcesUpdate struct {
		VCPUs     *int   `json:"vcpus,omitempty" minimum:"1" maximum:"1024"`
		MemoryMiB *int64 `json:"memory_mib,omitempty" minimum:"32" maximum:"16777216"`
		DiskGiB   *int64 `json:"disk_gib,omitempty" minimum:"1" maximum:"65536"`
	}
	type FlavorUpdate struct {
		Name        *string                `json:"name,omitempty" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" patternDescription:"RFC 1123 label" maxLength:"63"`
		Description *string                `json:"description,omitempty" maxLength:"1024"`
		Resources   *FlavorResourcesUpdate `json:"resources,omitempty"`
	}
	type updateInput struct {
		Path
		IfMatch string `header:"If-Match" maxLength:"128" doc:"The ETag of what is to be changed."`
		Body    FlavorUpdate
	}
	httpx.Handle(kit, httpx.Op{ID: "flavor-update", Method: http.MethodPatch, Path: one, Permission: "flavor:update",
		Summary: "Change a named size", Tag: "flavors", Description: "Virtual machines that were made with it keep their size. Needs the permission on the platform.",
		Errors: []*errs.Error{vm.ErrFlavorNotFound, vm.ErrFlavorInvalid, vm.ErrFlavorTaken, vm.ErrFlavorVersion}},
		func(ctx context.Context, in *updateInput) (*output, error) {
			change := store.FlavorChange{Name: in.Body.Name, Description: in.Body.Description}
			if r := in.Body.Resources; r != nil {
				change.VCPUs, change.MemoryMiB, change.DiskGiB = r.VCPUs, r.MemoryMiB, r.DiskGiB
			}
			var err error
			if change.Seen, err = ifVersion(in.IfMatch, vm.ErrFlavorVersion); err != nil {
				return nil, err
			}
			f, err := a.svc.UpdateFlavor(ctx, in.ID, change)
			if err != nil {
				return nil, err
			}
			return shown(http.StatusOK, f), nil
		})
	type deleteInput struct {
		Path
		IfMatch string `header:"If-Match" maxLength:"128" doc:"The ETag of what is to be deleted."`
	}
	httpx.Handle(kit, httpx.Op{ID: "flavor-delete", Method: http.MethodDelete, Path: one, Permission: "flavor:delete",
		Summary: "Delete a named size", Tag: "flavors", Status: http.StatusNoContent, Errors: []*errs.Error{vm.ErrFlavorNotFound, vm.ErrFlavorVersion},
		Description: "Virtual machines that were made with it keep their size. Needs the permission on the platform."},
		func(ctx context.Context, in *deleteInput) (*noContent, error) {
			seen, err := ifVersion(in.IfMatch, vm.ErrFlavorVersion)
			if err != nil {
				return nil, err
			}
			return &noContent{Status: http.StatusNoContent}, a.svc.DeleteFlavor(ctx, in.ID, seen)
		})
}

func (a *API) registerSSHKeys(kit *httpx.API) {
	const all, one = "/api/v1/ssh-keys", "/api/v1/ssh-keys/{id}"
	type Path struct {
		ID uuid.UUID `path:"id" format:"uuid" doc:"Id of the SSH key."`
	}
	type SSHKeyCreate struct {
		Name      string `json:"name" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" patternDescription:"RFC 1123 label" maxLength:"63" doc:"RFC 1123 label, unique in the tenant." example:"laptop"`
		PublicKey string `json:"public_key" minLength:"1" maxLength:"16384" doc:"A line as in authorized_keys (sshd(8))." example:"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGHDdDqfNZQ8T2rsBEvVXHgbs9qPnEwK5UMA2QiRDRqX ada@example.org"`
	}
	type output struct {
		Status   int
		Location string `header:"Location"`
		ETag     string `header:"ETag"`
		Body     vm.SSHKey
	}
	tag := versionTag(vm.SSHKeyVersion)
	httpx.Handle(kit, httpx.Op{ID: "ssh-key-create", Method: http.MethodPost, Path: all, Permission: "ssh-key:create", Owned: true,
		Summary: "Keep a public key for guests to be", Tag: "ssh keys", Status: http.StatusCreated,
		Description: "A virtual machine may be made with it by name or id, and takes a copy.",
		Errors:      []*errs.Error{vm.ErrSSHKeyInvalid, vm.ErrSSHKeyTaken}},
		func(ctx context.Context, in *struct{ Body SSHKeyCreate }) (*output, error) {
			k, err := a.svc.CreateSSHKey(ctx, in.Body.Name, in.Body.PublicKey)
			return &output{Status: http.StatusCreated, Location: all + "/" + k.ID.String(), ETag: tag, Body: k}, err
		})
	type listInput struct {
		NamedPage
		Fingerprint string `query:"fingerprint" maxLength:"64" doc:"Only those of this key."`
	}
	type listOutput struct{ Body httpx.Page[vm.SSHKey] }
	httpx.Handle(kit, httpx.Op{ID: "ssh-key-list", Method: http.MethodGet, Path: all, Permission: "ssh-key:read", Owned: true,
		Summary: "List SSH keys, newest first", Tag: "ssh keys", Errors: []*errs.Error{httpx.ErrCursor}},
		func(ctx context.Context, in *listInput) (*listOutput, error) {
			page, err := httpx.List(in.PageParams, func(k vm.SSHKey) httpx.Cursor { return httpx.Cursor{CreatedAt: k.CreatedAt, ID: k.ID} },
				func(after *httpx.Cursor, limit int) ([]vm.SSHKey, error) {
					return a.svc.ListSSHKeys(ctx, in.Name, in.Fingerprint, after, limit)
				})
			return &listOutput{Body: page}, err
		})
	httpx.Handle(kit, httpx.Op{ID: "ssh-key-get", Method: http.MethodGet, Path: one, Permission: "ssh-key:read", Owned: true,
		Summary: "Read an SSH key", Tag: "ssh keys", Errors: []*errs.Error{vm.ErrSSHKeyNotFound}},
		func(ctx context.Context, in *Path) (*output, error) {
			k, err := a.svc.GetSSHKey(ctx, in.ID)
			return &output{Status: http.StatusOK, ETag: tag, Body: k}, err
		})
	type deleteInput struct {
		Path
		IfMatch string `header:"If-Match" maxLength:"128" doc:"The ETag of what is to be deleted."`
	}
	httpx.Handle(kit, httpx.Op{ID: "ssh-key-delete", Method: http.MethodDelete, Path: one, Permission: "ssh-key:delete", Owned: true,
		Summary: "Delete an SSH key", Tag: "ssh keys", Status: http.StatusNoContent, Errors: []*errs.Error{vm.ErrSSHKeyNotFound, vm.ErrSSHKeyVersion},
		Description: "Guests that were made with it keep their copy."},
		func(ctx context.Context, in *deleteInput) (*noContent, error) {
			seen, err := ifVersion(in.IfMatch, vm.ErrSSHKeyVersion)
			if err != nil {
				return nil, err
			}
			return &noContent{Status: http.StatusNoContent}, a.svc.DeleteSSHKey(ctx, in.ID, seen)
		})
}

func (a *API) registerTemplates(kit *httpx.API) {
	const all, one = "/api/v1/templates", "/api/v1/templates/{id}"
	type Path struct {
		ID uuid.UUID `path:"id" format:"uuid" doc:"Id of the template."`
	}
	type TemplateCreate struct {
		Name        string           `json:"name" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" patternDescription:"RFC 1123 label" maxLength:"63" doc:"RFC 1123 label, unique in the tenant." example:"web"`
		Description string           `json:"description,omitempty" maxLength:"1024"`
		Visibility  vm.Visibility    `json:"visibility,omitempty" enum:"private,public" default:"private" doc:"public shows it to every tenant; needs template:publish on the platform."`
		Spec        *vm.TemplateSpec `json:"spec,omitempty" doc:"What it gives. Either this or vm_id."`
		VMID        *uuid.UUID       `json:"vm_id,omitempty" format:"uuid" doc:"Take the spec from this virtual machine. Its disk is not copied: the template names its image."`
	}
	type output struct {
		Status   int
		Location string `header:"Location"`
		ETag     string `header:"ETag"`
		Body     vm.Template
	}
	shown := func(status int, t vm.Template) *output {
		out := &output{Status: status, ETag: versionTag(t.Version), Body: t}
		if status == http.StatusCreated {
			out.Location = all + "/" + t.ID.String()
		}
		return out
	}
	checked := []*errs.Error{vm.ErrTemplateInvalid, vm.ErrTemplateTaken, vm.ErrImageNotFound, vm.ErrNetworkNotFound, vm.ErrGroupNotFound}
	httpx.Handle(kit, httpx.Op{ID: "template-create", Method: http.MethodPost, Path: all, Permission: "template:create", Owned: true,
		Summary: "Create a template", Tag: "templates", Status: http.StatusCreated,
		Description: "A virtual machine that is created with its id as template_id takes from it what the request leaves out.",
		Errors:      append([]*errs.Error{vm.ErrNotFound}, checked...)},
		func(ctx context.Context, in *struct{ Body TemplateCreate }) (*output, error) {
			b := in.Body
			if (b.Spec == nil) == (b.VMID == nil) {
				return nil, vm.ErrTemplateInvalid.WithField("body.spec", "give either this or vm_id", "")
			}
			req := service.TemplateRequest{Name: b.Name, Description: b.Description, Visibility: b.Visibility, VMID: b.VMID}
			if b.Spec != nil {
				req.Spec = *b.Spec
			}
			t, err := a.svc.CreateTemplate(ctx, req)
			if err != nil {
				return nil, err
			}
			return shown(http.StatusCreated, t), nil
		})
	type listInput struct {
		NamedPage
		Visibility vm.Visibility `query:"visibility" enum:"private,public" doc:"Only those."`
	}
	type listOutput struct{ Body httpx.Page[vm.Template] }
	httpx.Handle(kit, httpx.Op{ID: "template-list", Method: http.MethodGet, Path: all, Permission: "template:read", Owned: true,
		Summary: "List the tenant's templates and those for everybody, newest first", Tag: "templates", Errors: []*errs.Error{httpx.ErrCursor}},
		func(ctx context.Context, in *listInput) (*listOutput, error) {
			page, err := httpx.List(in.PageParams, func(t vm.Template) httpx.Cursor { return httpx.Cursor{CreatedAt: t.CreatedAt, ID: t.ID} },
				func(after *httpx.Cursor, limit int) ([]vm.Template, error) {
					return a.svc.ListTemplates(ctx, in.Name, in.Visibility, after, limit)
				})
			return &listOutput{Body: page}, err
		})
	httpx.Handle(kit, httpx.Op{ID: "template-get", Method: http.MethodGet, Path: one, Permission: "template:read", Owned: true,
		Summary: "Read a template", Tag: "templates", Errors: []*errs.Error{vm.ErrTemplateNotFound}},
		func(ctx context.Context, in *Path) (*output, error) {
			t, err := a.svc.GetTemplate(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			return shown(http.StatusOK, t), nil
		})
	type TemplateUpdate struct {
		Name        *string          `json:"name,omitempty" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" patternDescription:"RFC 1123 label" maxLength:"63"`
		Description *string          `json:"description,omitempty" maxLength:"1024"`
		Visibility  *vm.Visibility   `json:"visibility,omitempty" enum:"private,public"`
		Spec        *vm.TemplateSpec `json:"spec,omitempty" doc:"Replaces the whole spec."`
	}
	type updateInput struct {
		Path
		IfMatch string `header:"If-Match" maxLength:"128" doc:"The ETag of what is to be changed."`
		Body    TemplateUpdate
	}
	httpx.Handle(kit, httpx.Op{ID: "template-update", Method: http.MethodPatch, Path: one, Permission: "template:update", Owned: true,
		Summary: "Change a template", Tag: "templates", Description: "Virtual machines that were made by it stay as they are.",
		Errors: append([]*errs.Error{vm.ErrTemplateNotFound, vm.ErrTemplateVersion}, checked...)},
		func(ctx context.Context, in *updateInput) (*output, error) {
			seen, err := ifVersion(in.IfMatch, vm.ErrTemplateVersion)
			if err != nil {
				return nil, err
			}
			t, err := a.svc.UpdateTemplate(ctx, in.ID, store.TemplateChange{Name: in.Body.Name, Description: in.Body.Description, Visibility: in.Body.Visibility,
				Spec: in.Body.Spec, Seen: seen})
			if err != nil {
				return nil, err
			}
			return shown(http.StatusOK, t), nil
		})
	type deleteInput struct {
		Path
		IfMatch string `header:"If-Match" maxLength:"128" doc:"The ETag of what is to be deleted."`
	}
	httpx.Handle(kit, httpx.Op{ID: "template-delete", Method: http.MethodDelete, Path: one, Permission: "template:delete", Owned: true,
		Summary: "Delete a template", Tag: "templates", Status: http.StatusNoContent, Errors: []*errs.Error{vm.ErrTemplateNotFound, vm.ErrTemplateVersion}},
		func(ctx context.Context, in *deleteInput) (*noContent, error) {
			seen, err := ifVersion(in.IfMatch, vm.ErrTemplateVersion)
			if err != nil {
				return nil, err
			}
			return &noContent{Status: http.StatusNoContent}, a.svc.DeleteTemplate(ctx, in.ID, seen)
		})
}
