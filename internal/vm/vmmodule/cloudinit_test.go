package vmmodule

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm"
)

func (w *world) seedOf(id uuid.UUID) string {
	w.t.Helper()
	content, err := os.ReadFile(filepath.Join(filepath.Dir(w.rootOf(id)), "seed.iso"))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(content)
}

// What cloud-init is given reaches the guest's seed and is told to nobody; templates and clones pass on what is not of one machine alone.
func TestCloudInit(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	const hash = "$6$Kf1Jm2Zx$k7b3w5r8QhVqk0jD2mC1nP9sT4uY6iO8aS1dF3gH5jK7lZ9xC2vB4nM6qW8eR0tY2uI4oP6aS8dF0gH2jK4lZ."
	body := createRequest("web-1", image.ID)
	body["vendor_data"], body["network_config"] = "#cloud-config\npackages: [vendor-package]\n", "network: {version: 2, ethernets: {custom0: {dhcp4: true}}}"
	body["hostname"], body["password_hash"] = "web-1.example.org", hash
	id := w.succeeds(http.MethodPost, "/api/v1/vms", body).TargetID
	seed := w.seedOf(id)
	for _, want := range []string{"vendor-package", "custom0:", "local-hostname: web-1.example.org", hash} {
		if !strings.Contains(seed, want) {
			t.Errorf("the seed lacks %q", want)
		}
	}
	for _, path := range []string{w.vmPath(id), "/api/v1/vms", w.vmPath(id) + "/history", "/api/v1/events?limit=100"} {
		if text := w.do(http.MethodGet, path, nil, "Accept", "application/json").Body.String(); strings.Contains(text, hash) || strings.Contains(text, "custom0") {
			t.Errorf("%s tells what cloud-init was given", path)
		}
	}
	clone := w.clone(id, map[string]any{"name": "copy", "start": false})
	if seed := w.seedOf(clone.TargetID); !strings.Contains(seed, "vendor-package") || !strings.Contains(seed, hash) || strings.Contains(seed, "custom0") ||
		!strings.Contains(seed, "local-hostname: copy") || !strings.Contains(seed, w.get(clone.TargetID).Networks[0].MAC) {
		t.Error("the clone's seed is not its own")
	}
	template := decode[vm.Template](t, w.do(http.MethodPost, "/api/v1/templates", map[string]any{"name": "web", "vm_id": id}), http.StatusCreated)
	if template.Spec.VendorData == "" {
		t.Errorf("the template gives %+v", template.Spec)
	}
	plain := w.succeeds(http.MethodPost, "/api/v1/vms", map[string]any{"name": "web-2", "template_id": template.ID}).TargetID
	if seed := w.seedOf(plain); !strings.Contains(seed, "vendor-package") || strings.Contains(seed, hash) || !strings.Contains(seed, "dhcp4: true") {
		t.Error("what the template gives is not in the seed")
	}
	for field, value := range map[string]string{"user_data": "packages: [curl]\n", "vendor_data": "#cloud-config\n\t", "network_config": "version: 9", "hostname": "a_b", "password_hash": "secret-word"} {
		body := createRequest("web-3", image.ID)
		body[field] = value
		rec := w.do(http.MethodPost, "/api/v1/vms", body)
		if rec.Code != http.StatusUnprocessableEntity || !strings.Contains(rec.Body.String(), "body."+field) || strings.Contains(rec.Body.String(), "secret-word") {
			t.Errorf("%s is answered with %d %s", field, rec.Code, rec.Body)
		}
	}
}
