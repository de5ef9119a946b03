package vmmodule

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// publicKey was made by ssh-keygen for these tests; nobody has the other half.
const publicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGHDdDqfNZQ8T2rsBEvVXHgbs9qPnEwK5UMA2QiRDRqX ada@example.org"

func (w *world) made(id uuid.UUID) store.Record {
	w.t.Helper()
	r, err := store.New(w.vm.controller.pool, w.vm.controller.ops).GetVM(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func onPlatform(permissions ...string) identity.Principal {
	p := principal(permissions...)
	p.Platform = permissions
	return p
}

func TestFlavors(t *testing.T) {
	w := newWorld(t)
	const all = "/api/v1/flavors"
	root := onPlatform("*")
	list := decode[struct {
		Items []vm.Flavor
		Next  string `json:"next_cursor"`
	}](t, w.do(http.MethodGet, all+"?limit=2", nil), http.StatusOK)
	if len(list.Items) != 2 || list.Items[0].Name != "tiny" || list.Items[1].Name != "small" || list.Next == "" {
		t.Errorf("first page: %+v", list)
	}
	rest := decode[struct{ Items []vm.Flavor }](t, w.do(http.MethodGet, all+"?cursor="+list.Next, nil), http.StatusOK)
	if len(rest.Items) != 3 || rest.Items[2].Name != "xlarge" {
		t.Errorf("second page: %+v", rest)
	}
	body := object{"name": "build", "resources": object{"vcpus": 2, "memory_mib": 256, "disk_gib": 3}}
	w.fails(http.MethodPost, all, body, http.StatusForbidden, "auth.forbidden") // a tenant's administrator
	rec := w.doAs(root, http.MethodPost, all, body)
	made := decode[vm.Flavor](t, rec, http.StatusCreated)
	one := all + "/" + made.ID.String()
	if rec.Header().Get("Location") != one {
		t.Errorf("location %s", rec.Header().Get("Location"))
	}
	if p := decode[errs.Problem](t, w.doAs(root, http.MethodPost, all, body), http.StatusConflict); p.Code != "flavor.name_taken" {
		t.Errorf("taken: %s", p.Code)
	}
	create := createRequest("built", w.image().ID)
	create["flavor"], create["resources"] = "build", object{"memory_mib": 128}
	id := w.succeeds(http.MethodPost, "/api/v1/vms", create).TargetID
	if r := w.get(id).Resources; r != (vm.Resources{VCPUs: 2, MemoryMiB: 128, DiskGiB: 3}) {
		t.Errorf("made with %+v", r)
	}
	change := object{"resources": object{"vcpus": 3}}
	if p := decode[errs.Problem](t, w.doAs(root, http.MethodPatch, one, change, "If-Match", `"7"`), http.StatusPreconditionFailed); p.Code != "flavor.version_mismatch" {
		t.Errorf("mismatch: %s", p.Code)
	}
	now := decode[vm.Flavor](t, w.doAs(root, http.MethodPatch, one, change, "If-Match", rec.Header().Get("ETag")), http.StatusOK)
	if now.Resources != (vm.Resources{VCPUs: 3, MemoryMiB: 256, DiskGiB: 3}) || now.Version != made.Version+1 || now.Name != "build" {
		t.Errorf("changed to %+v", now)
	}
	w.fails(http.MethodPatch, one, change, http.StatusForbidden, "auth.forbidden")
	w.fails(http.MethodDelete, one, nil, http.StatusForbidden, "auth.forbidden")
	if rec := w.doAs(root, http.MethodDelete, one, nil); rec.Code != http.StatusNoContent {
		t.Errorf("delete: %d %s", rec.Code, rec.Body)
	}
	w.fails(http.MethodGet, one, nil, http.StatusNotFound, "flavor.not_found")
	if m := w.get(id); m.Flavor != "build" || m.Resources.VCPUs != 2 {
		t.Errorf("what was made by it became %+v", m)
	}
}

func TestSSHKeys(t *testing.T) {
	w := newWorld(t)
	const all = "/api/v1/ssh-keys"
	made := decode[vm.SSHKey](t, w.do(http.MethodPost, all, object{"name": "laptop", "public_key": publicKey + "\n"}), http.StatusCreated)
	if made.Type != "ssh-ed25519" || !strings.HasPrefix(made.Fingerprint, "SHA256:") || made.PublicKey != publicKey {
		t.Errorf("made %+v", made)
	}
	for what, key := range map[string]string{
		"no key":        "x y z",
		"cut short":     publicKey[:40],
		"two lines":     publicKey + "\n" + publicKey,
		"a private key": "-----BEGIN OPENSSH PRIVATE KEY----- b3BlbnNzaC1rZXktdjEA",
		"a broken blob": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== ada",
	} {
		p := decode[errs.Problem](t, w.do(http.MethodPost, all, object{"name": "bad", "public_key": key}), http.StatusUnprocessableEntity)
		if p.Code != "ssh_key.invalid" || len(p.Errors) != 1 || p.Errors[0].Location != "body.public_key" || p.Errors[0].Value != "" {
			t.Errorf("%s: %+v", what, p)
		}
	}
	w.fails(http.MethodPost, all, object{"name": "laptop", "public_key": publicKey}, http.StatusConflict, "ssh_key.name_taken")
	list := decode[struct{ Items []vm.SSHKey }](t, w.do(http.MethodGet, all+"?fingerprint="+strings.ReplaceAll(made.Fingerprint, "+", "%2B"), nil), http.StatusOK)
	if len(list.Items) != 1 || list.Items[0] != made {
		t.Errorf("found %+v", list.Items)
	}

	// By text, by name and by id; what the guest has is a copy.
	body := createRequest("web-1", w.image().ID)
	other := strings.Replace(publicKey, "ada@", "bob@", 1)
	body["ssh_keys"] = []string{other, "laptop", made.ID.String()}
	id := w.succeeds(http.MethodPost, "/api/v1/vms", body).TargetID
	if got := w.made(id).SSHKeys; len(got) != 3 || got[0] != other || got[1] != publicKey || got[2] != publicKey {
		t.Errorf("made with %q", got)
	}
	for _, key := range []string{"nobody", uuid.NewString(), "ssh-ed25519 AAAA", "ssh-rsa " + strings.Repeat("A", 200)} {
		body["ssh_keys"] = []string{publicKey, key}
		p := decode[errs.Problem](t, w.do(http.MethodPost, "/api/v1/vms", body), http.StatusUnprocessableEntity)
		if p.Code != "vm.invalid" || len(p.Errors) != 1 || p.Errors[0].Location != "body.ssh_keys[1]" {
			t.Errorf("%s: %+v", key, p)
		}
	}
	// Another's key cannot be used by whoever may only know their own, or by another tenant.
	mine := w.tenant
	mine.UserID, mine.Permissions = uuid.New(), []string{"vm:*", "image:read", "ssh-key:*:own", "network:read"}
	stranger := principal("*")
	for _, p := range []identity.Principal{mine, stranger} {
		if got := decode[errs.Problem](t, w.doAs(p, http.MethodGet, all+"/"+made.ID.String(), nil), http.StatusNotFound); got.Code != "ssh_key.not_found" {
			t.Errorf("read: %s", got.Code)
		}
		if got := decode[errs.Problem](t, w.doAs(p, http.MethodDelete, all+"/"+made.ID.String(), nil), http.StatusNotFound); got.Code != "ssh_key.not_found" {
			t.Errorf("delete: %s", got.Code)
		}
		if items := decode[struct{ Items []vm.SSHKey }](t, w.doAs(p, http.MethodGet, all, nil), http.StatusOK).Items; len(items) != 0 {
			t.Errorf("listed %+v", items)
		}
	}
	body["name"], body["ssh_keys"] = "web-2", []string{made.ID.String()}
	if got := decode[errs.Problem](t, w.doAs(mine, http.MethodPost, "/api/v1/vms", body), http.StatusUnprocessableEntity); got.Code != "vm.invalid" {
		t.Errorf("use: %s", got.Code)
	}
	if rec := w.do(http.MethodDelete, all+"/"+made.ID.String(), nil); rec.Code != http.StatusNoContent {
		t.Errorf("delete: %d", rec.Code)
	}
	w.fails(http.MethodGet, all+"/"+made.ID.String(), nil, http.StatusNotFound, "ssh_key.not_found")
}

func TestTemplates(t *testing.T) {
	w := newWorld(t)
	const all = "/api/v1/templates"
	image := w.image().ID
	network := w.network(object{"name": "backend", "cidr": "10.77.0.0/24"})
	w.do(http.MethodPost, "/api/v1/ssh-keys", object{"name": "laptop", "public_key": publicKey})
	spec := object{"image_id": image, "flavor": "tiny", "resources": object{"memory_mib": 128}, "ssh_keys": []string{"laptop"},
		"networks": []object{{"network_id": network.ID}}, "user_data": "#cloud-config\n", "tags": object{"role": "web", "env": "test"}}
	rec := w.do(http.MethodPost, all, object{"name": "web", "spec": spec})
	made := decode[vm.Template](t, rec, http.StatusCreated)
	one := all + "/" + made.ID.String()
	if made.Visibility != vm.Private || made.Spec.SSHKeys[0] != publicKey {
		t.Errorf("made %+v", made)
	}

	id := w.succeeds(http.MethodPost, "/api/v1/vms", object{"name": "web-1", "template_id": made.ID, "tags": object{"env": "prod"}}).TargetID
	m := w.made(id)
	if m.ImageID != image || m.Resources != (vm.Resources{VCPUs: 1, MemoryMiB: 128, DiskGiB: 1}) || m.Networks[0].NetworkID != network.ID || m.SSHKeys[0] != publicKey ||
		m.UserData != "#cloud-config\n" || m.Tags["role"] != "web" || m.Tags["env"] != "prod" {
		t.Errorf("made by the template: %+v", m)
	}
	// The request goes first; a flavor of its own leaves out the template's sizes.
	id = w.succeeds(http.MethodPost, "/api/v1/vms", object{"name": "web-2", "template_id": made.ID, "flavor": "small", "resources": object{"disk_gib": 2, "memory_mib": 192},
		"user_data": "#!/bin/sh\n"}).TargetID
	if m := w.made(id); m.Resources != (vm.Resources{VCPUs: 1, MemoryMiB: 192, DiskGiB: 2}) || m.Flavor != "small" || m.UserData != "#!/bin/sh\n" {
		t.Errorf("made by the template and the request: %+v", m)
	}
	// From a machine that is there: everything but its addresses.
	like := decode[vm.Template](t, w.do(http.MethodPost, all, object{"name": "like-web-2", "vm_id": id}), http.StatusCreated)
	id = w.succeeds(http.MethodPost, "/api/v1/vms", object{"name": "web-3", "template_id": like.ID}).TargetID
	if m := w.get(id); m.Resources.MemoryMiB != 192 || m.Networks[0].NetworkID != network.ID || len(w.list("")) != 3 {
		t.Errorf("made like another: %+v", m)
	}

	for what, test := range map[string]struct {
		body   object
		status int
		code   string
	}{
		"neither":       {object{"name": "x"}, 422, "template.invalid"},
		"both":          {object{"name": "x", "spec": object{}, "vm_id": id}, 422, "template.invalid"},
		"taken":         {object{"name": "web", "spec": object{}}, 409, "template.name_taken"},
		"no image":      {object{"name": "x", "spec": object{"image_id": uuid.New()}}, 404, "image.not_found"},
		"no network":    {object{"name": "x", "spec": object{"networks": []object{{"network_id": uuid.New()}}}}, 404, "network.not_found"},
		"no flavor":     {object{"name": "x", "spec": object{"flavor": "gigantic"}}, 422, "template.invalid"},
		"no key":        {object{"name": "x", "spec": object{"ssh_keys": []string{"nobody"}}}, 422, "template.invalid"},
		"bad user data": {object{"name": "x", "spec": object{"user_data": "#cloud-config\na: ["}}, 422, "template.invalid"},
		"no machine":    {object{"name": "x", "vm_id": uuid.New()}, 404, "vm.not_found"},
		"public":        {object{"name": "x", "visibility": "public", "spec": object{}}, 403, "auth.forbidden"},
	} {
		if p := decode[errs.Problem](t, w.do(http.MethodPost, all, test.body), test.status); p.Code != test.code {
			t.Errorf("%s: %s, want %s", what, p.Code, test.code)
		}
	}
	w.fails(http.MethodPost, "/api/v1/vms", object{"name": "x", "template_id": uuid.New()}, http.StatusNotFound, "template.not_found")
	p := decode[errs.Problem](t, w.do(http.MethodPost, "/api/v1/vms", object{"name": "x", "flavor": "tiny"}), http.StatusUnprocessableEntity)
	if p.Code != "vm.invalid" || p.Errors[0].Location != "body.image_id" {
		t.Errorf("neither template nor image: %+v", p)
	}

	// For everybody: platform staff publish, and strangers use it without learning whose it is.
	root, stranger := onPlatform("*"), principal("*")
	public := decode[vm.Template](t, w.doAs(root, http.MethodPost, all, object{"name": "small-one", "visibility": "public", "spec": object{"flavor": "tiny"}}), http.StatusCreated)
	if p := decode[errs.Problem](t, w.doAs(root, http.MethodPost, all, object{"name": "y", "visibility": "public", "spec": object{"networks": []object{{"security_groups": []string{}}}}}),
		http.StatusUnprocessableEntity); p.Code != "template.invalid" {
		t.Errorf("a public template with groups: %s", p.Code)
	}
	seen := decode[struct{ Items []vm.Template }](t, w.doAs(stranger, http.MethodGet, all, nil), http.StatusOK).Items
	if len(seen) != 1 || seen[0].ID != public.ID || seen[0].TenantID != nil || seen[0].OwnerID != nil {
		t.Errorf("a stranger sees %+v", seen)
	}
	w.succeeds(http.MethodPost, "/api/v1/vms", object{"name": "web-4", "template_id": public.ID, "image_id": image})
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		if p := decode[errs.Problem](t, w.doAs(stranger, method, one, nil), http.StatusNotFound); p.Code != "template.not_found" {
			t.Errorf("%s by a stranger: %s", method, p.Code)
		}
	}
	w.fails(http.MethodDelete, all+"/"+public.ID.String(), nil, http.StatusNotFound, "template.not_found")

	if p := decode[errs.Problem](t, w.do(http.MethodPatch, one, object{"name": "y"}, "If-Match", `"9"`), http.StatusPreconditionFailed); p.Code != "template.version_mismatch" {
		t.Errorf("mismatch: %s", p.Code)
	}
	w.fails(http.MethodPatch, one, object{"visibility": "public"}, http.StatusUnprocessableEntity, "template.invalid")
	now := decode[vm.Template](t, w.do(http.MethodPatch, one, object{"name": "website", "spec": object{"flavor": "large"}}, "If-Match", rec.Header().Get("ETag")), http.StatusOK)
	if now.Name != "website" || now.Spec.Flavor != "large" || now.Spec.ImageID != nil || now.Version != 2 {
		t.Errorf("changed to %+v", now)
	}
	if rec := w.do(http.MethodDelete, one, nil); rec.Code != http.StatusNoContent {
		t.Errorf("delete: %d %s", rec.Code, rec.Body)
	}
	w.fails(http.MethodGet, one, nil, http.StatusNotFound, "template.not_found")
}
