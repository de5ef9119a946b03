package vmmodule

import (
	"net/http"
	"slices"
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

// A template gives what a request can say of drive, kernel, boot order and hardware, and the request goes first in each of them.
func TestTemplatesGiveDiscsKernelsAndHardware(t *testing.T) {
	w := newWorld(t)
	const all = "/api/v1/templates"
	disk := w.ready(w.image().ID)
	iso := w.ready(w.upload("name=iso", isoFile()).ID)
	other := w.ready(w.upload("name=other", append(isoFile(), make([]byte, 2048)...)).ID)
	kernel := w.ready(w.upload("name=vmlinuz&kind=kernel", kernelFile()).ID)
	initrd := w.ready(w.upload("name=initrd&kind=initrd", []byte("\x1f\x8b\x08initrd")).ID)
	boot := object{"kernel_image_id": kernel.ID, "initrd_image_id": initrd.ID, "command_line": "console=ttyS0"}
	spec := object{"image_id": disk.ID, "flavor": "tiny", "cdrom_image_id": iso.ID, "direct_boot": boot, "boot_order": []string{"cdrom", "root"},
		"network_config": "version: 2\nethernets: {eth0: {dhcp4: true}}\n", "networks": []object{{"link": "down", "bandwidth": object{"in_kbps": 1000}}},
		"autostart": object{"order": 7}, "cpu": object{"model": "host-model"}, "watchdog": object{"model": "i6300esb"}, "io_limits": object{"root": object{"read_iops": 100}}}
	made := decode[vm.Template](t, w.do(http.MethodPost, all, object{"name": "install", "spec": spec}), http.StatusCreated)
	use := func(name string, body object) store.Record {
		t.Helper()
		body["name"], body["template_id"] = name, made.ID
		return w.made(w.succeeds(http.MethodPost, "/api/v1/vms", body).TargetID)
	}
	m := use("web-1", object{})
	if *m.CDROM.ImageID != iso.ID || *m.DirectBoot.KernelImageID != kernel.ID || *m.DirectBoot.InitrdImageID != initrd.ID || m.DirectBoot.CommandLine != "console=ttyS0" ||
		!slices.Equal(m.BootOrder, []string{"cdrom", "root"}) || m.CloudInit.NetworkConfig == "" || m.Networks[0].Link != vm.LinkDown || m.Networks[0].Bandwidth.InKbps != 1000 ||
		m.Autostart != (vm.Autostart{Enabled: true, Order: 7}) || m.CPU.Model != "host-model" || m.Watchdog != (vm.Watchdog{Model: "i6300esb", Action: "reset"}) || m.IOLimits["root"].ReadIOPS != 100 {
		t.Errorf("made by the template: %+v %+v", m.Settings, m.Networks)
	}
	m = use("web-2", object{"cdrom_image_id": other.ID, "direct_boot": object{}, "boot_order": []string{"root"}, "autostart": object{"enabled": false},
		"watchdog": object{"model": "none"}, "io_limits": object{"root": object{"write_iops": 5}}, "cpu": object{}})
	if *m.CDROM.ImageID != other.ID || m.DirectBoot != (vm.DirectBoot{}) || !slices.Equal(m.BootOrder, []string{"root"}) || m.Autostart != (vm.Autostart{Order: 7}) ||
		m.Watchdog.Model != vm.WatchdogNone || m.IOLimits["root"] != (vm.IOLimits{WriteIOPS: 5}) || m.CPU != (vm.CPU{}) {
		t.Errorf("made by template and request: %+v", m.Settings)
	}
	// An ISO image as the image of the machine takes the drive that the template would fill.
	if m = use("web-3", object{"image_id": other.ID, "direct_boot": object{}, "boot_order": []string{"cdrom", "root"}}); *m.CDROM.ImageID != other.ID {
		t.Errorf("installed from %+v", m.CDROM)
	}

	// Like a machine that has all that; its volumes, its addresses and their network-config are its own.
	volume := w.newVolume("data-1")
	first := decode[struct{ Items []vm.VM }](t, w.do(http.MethodGet, "/api/v1/vms?name=web-1", nil), http.StatusOK).Items[0]
	w.succeeds(http.MethodPost, w.vmPath(first.ID)+"/disks", object{"volume_id": volume})
	decode[vm.VM](t, w.do(http.MethodPatch, w.vmPath(first.ID), object{"boot_order": []string{volume.String(), "cdrom", "root"}, "io_limits": object{volume.String(): object{"read_iops": 9}}}), http.StatusOK)
	like := decode[vm.Template](t, w.do(http.MethodPost, all, object{"name": "like-web-1", "vm_id": first.ID}), http.StatusCreated)
	if s := like.Spec; *s.CDROMImageID != iso.ID || *s.DirectBoot.KernelImageID != kernel.ID || !slices.Equal(s.BootOrder, []string{"cdrom", "root"}) || *s.Autostart.Order != 7 ||
		s.Watchdog.Model != "i6300esb" || len(s.IOLimits) != 1 || s.IOLimits["root"].ReadIOPS != 100 || s.Networks[0].Link != "down" || s.Networks[0].Bandwidth.InKbps != 1000 || s.NetworkConfig != "" {
		t.Errorf("like web-1: %+v", s)
	}
	installed := decode[struct{ Items []vm.VM }](t, w.do(http.MethodGet, "/api/v1/vms?name=web-3", nil), http.StatusOK).Items[0]
	again := decode[vm.Template](t, w.do(http.MethodPost, all, object{"name": "like-web-3", "vm_id": installed.ID}), http.StatusCreated)
	if again.Spec.CDROMImageID != nil || *again.Spec.ImageID != other.ID {
		t.Errorf("like web-3: %+v", again.Spec)
	}
	w.succeeds(http.MethodPost, "/api/v1/vms", object{"name": "web-4", "template_id": again.ID})

	for what, bad := range map[string]struct {
		spec     object
		status   int
		code, at string
	}{
		"no disc":             {object{"cdrom_image_id": uuid.New()}, 404, "image.not_found", ""},
		"a disk in the drive": {object{"cdrom_image_id": disk.ID}, 422, "image.wrong_kind", "body.spec.cdrom_image_id"},
		"a disc as kernel":    {object{"direct_boot": object{"kernel_image_id": iso.ID}}, 422, "image.wrong_kind", "body.spec.direct_boot.kernel_image_id"},
		"a kernel as image":   {object{"image_id": kernel.ID}, 422, "image.wrong_kind", "body.spec.image_id"},
		"initrd alone":        {object{"direct_boot": object{"initrd_image_id": initrd.ID}}, 422, "template.invalid", "body.spec.direct_boot.kernel_image_id"},
		"two discs":           {object{"image_id": iso.ID, "cdrom_image_id": other.ID}, 422, "template.invalid", "body.spec.cdrom_image_id"},
		"a volume":            {object{"boot_order": []string{uuid.NewString()}}, 422, "template.invalid", "body.spec.boot_order[0]"},
		"root twice":          {object{"boot_order": []string{"root", "root"}}, 422, "template.invalid", "body.spec.boot_order[1]"},
		"half a topology":     {object{"cpu": object{"cores": 2}}, 422, "template.invalid", "body.spec.cpu"},
		"limits of a volume":  {object{"io_limits": object{uuid.NewString(): object{"read_iops": 1}}}, 422, "template.invalid", "body.spec.io_limits"},
		"bad network-config":  {object{"network_config": "version: 9"}, 422, "template.invalid", "body.spec.network_config"},
	} {
		p := decode[errs.Problem](t, w.do(http.MethodPost, all, object{"name": "x", "spec": bad.spec}), bad.status)
		if p.Code != bad.code || bad.at != "" && (len(p.Errors) == 0 || p.Errors[0].Location != bad.at) {
			t.Errorf("%s: %s at %+v", what, p.Code, p.Errors)
		}
	}
	w.fails(http.MethodPost, "/api/v1/vms", object{"name": "x", "template_id": made.ID, "io_limits": object{uuid.NewString(): object{"read_iops": 1}}}, 422, "vm.invalid")
	w.fails(http.MethodPost, "/api/v1/vms", object{"name": "x", "image_id": disk.ID, "flavor": "tiny", "boot_order": []string{"cdrom"}}, 422, "vm.invalid")

	// A template holds no image. Whoever uses it then is told which one is gone, unless the request gives another.
	for _, m := range w.list("") {
		w.succeeds(http.MethodDelete, w.vmPath(m.ID), nil)
	}
	if rec := w.do(http.MethodDelete, "/api/v1/images/"+iso.ID.String(), nil); rec.Code != http.StatusNoContent {
		t.Fatalf("delete: %d %s", rec.Code, rec.Body)
	}
	p := decode[errs.Problem](t, w.do(http.MethodPost, "/api/v1/vms", object{"name": "late", "template_id": made.ID}), http.StatusNotFound)
	if p.Code != "image.not_found" || len(p.Errors) != 1 || p.Errors[0].Location != "template.spec.cdrom_image_id" || p.Errors[0].Value != iso.ID.String() {
		t.Errorf("the disc is gone: %+v", p)
	}
	use("late", object{"cdrom_image_id": other.ID})
	stranger := principal("*")
	public := decode[vm.Template](t, w.doAs(onPlatform("*"), http.MethodPost, all, object{"name": "p", "visibility": "public", "spec": object{"flavor": "tiny"}}), http.StatusCreated)
	if p := decode[errs.Problem](t, w.doAs(stranger, http.MethodPost, "/api/v1/vms", object{"name": "s", "template_id": public.ID, "image_id": disk.ID}), http.StatusNotFound); p.Code != "image.not_found" {
		t.Errorf("a stranger with a foreign image: %s", p.Code)
	}
}
