package main

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm"
)

func flavor(id uuid.UUID, name string, vcpus int, memory, disk int64) *vm.Flavor {
	return &vm.Flavor{ID: id, Name: name, Resources: vm.Resources{VCPUs: vcpus, MemoryMiB: memory, DiskGiB: disk}, Version: 1, CreatedAt: day, UpdatedAt: day}
}

// shelf is what the server in memory has of one kind.
type shelf[T any] struct {
	path    string
	items   []*T
	id      func(*T) uuid.UUID
	name    func(*T) string
	missing *errs.Error
}

func (s *shelf[T]) serve(handle register, create func(*json.Decoder) *T, update func(*json.Decoder, *T)) {
	handle("GET "+s.path, func(w http.ResponseWriter, r *http.Request) {
		items, name := []*T{}, r.URL.Query().Get("name")
		for _, item := range s.items {
			if name == "" || name == s.name(item) {
				items = append(items, item)
			}
		}
		answer(w, 200, map[string]any{"items": items})
	})
	handle("POST "+s.path, func(w http.ResponseWriter, r *http.Request) {
		item := create(json.NewDecoder(r.Body))
		s.items = append(s.items, item)
		answer(w, 201, item)
	})
	for _, method := range []string{"GET", "PATCH", "DELETE"} {
		handle(method+" "+s.path+"/{id}", func(w http.ResponseWriter, r *http.Request) {
			at := slices.IndexFunc(s.items, func(item *T) bool { return s.id(item).String() == r.PathValue("id") })
			switch {
			case at < 0:
				refuse(w, s.missing)
			case method == "DELETE":
				s.items = slices.Delete(s.items, at, at+1)
				w.WriteHeader(204)
			default:
				if method == "PATCH" {
					update(json.NewDecoder(r.Body), s.items[at])
				}
				answer(w, 200, s.items[at])
			}
		})
	}
}

func (c *cloud) handleCatalog(handle register) {
	flavors := &shelf[vm.Flavor]{path: "/api/v1/flavors", items: []*vm.Flavor{flavor(uuid.New(), "tiny", 1, 256, 1), flavor(uuid.New(), "large", 4, 8192, 80)},
		id: func(f *vm.Flavor) uuid.UUID { return f.ID }, name: func(f *vm.Flavor) string { return f.Name }, missing: vm.ErrFlavorNotFound}
	flavors.serve(handle, func(d *json.Decoder) *vm.Flavor {
		f := flavor(c.id(), "", 0, 0, 0)
		_ = d.Decode(f)
		return f
	}, func(d *json.Decoder, f *vm.Flavor) { _ = d.Decode(f) })
	keys := &shelf[vm.SSHKey]{path: "/api/v1/ssh-keys", id: func(k *vm.SSHKey) uuid.UUID { return k.ID }, name: func(k *vm.SSHKey) string { return k.Name },
		missing: vm.ErrSSHKeyNotFound}
	keys.serve(handle, func(d *json.Decoder) *vm.SSHKey {
		k := &vm.SSHKey{ID: c.id(), Type: "ssh-ed25519", Fingerprint: "SHA256:abc", OwnerID: owner, TenantID: tenant, CreatedAt: day}
		_ = d.Decode(k)
		return k
	}, nil)
	templates := &shelf[vm.Template]{path: "/api/v1/templates", id: func(t *vm.Template) uuid.UUID { return t.ID }, name: func(t *vm.Template) string { return t.Name },
		missing: vm.ErrTemplateNotFound}
	templates.serve(handle, func(d *json.Decoder) *vm.Template {
		var in apiclient.TemplateCreate
		_ = d.Decode(&in)
		t := &vm.Template{ID: c.id(), Name: in.Name, Description: in.Description, Visibility: vm.Private, Version: 1, CreatedAt: day, UpdatedAt: day}
		if in.Spec != nil {
			t.Spec = *in.Spec
		}
		if in.VMID != nil {
			t.Spec.Flavor = "like-" + in.VMID.String()[34:]
		}
		return t
	}, func(d *json.Decoder, t *vm.Template) { _ = d.Decode(t) })
}
