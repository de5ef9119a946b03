package vmmodule

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/test/testhost"
)

// bootFiles takes the kernel and the initrd out of the demo image's boot partition, which begins at 1 MiB.
func bootFiles(t *testing.T) (kernel, initrd []byte) {
	t.Helper()
	dir := t.TempDir()
	raw := filepath.Join(dir, "demo.raw")
	if out, err := exec.Command("qemu-img", "convert", "-O", "raw", testhost.DemoImage(t), raw).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	read := func(name string) []byte {
		if out, err := exec.Command("mcopy", "-i", raw+"@@1048576", "::"+name, filepath.Join(dir, name)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	return read("vmlinuz"), read("initrd.gz")
}

// TestRealGuestWithKernelAndDisc: a real guest is booted with a kernel of the host's choice, sees a disc come and go while it runs, and virsh
// sees the same.
func TestRealGuestWithKernelAndDisc(t *testing.T) {
	w, h := realWorld(t)
	demo := w.demoImage()
	kernelBytes, initrdBytes := bootFiles(t)
	kernel, initrd := w.upload("name=kernel&kind=kernel", kernelBytes), w.upload("name=initrd&kind=initrd", initrdBytes)
	iso := w.upload("name=disc", isoFile())
	body := createRequest("direct", demo.ID)
	body["cdrom_image_id"] = iso.ID
	body["direct_boot"] = map[string]any{"kernel_image_id": kernel.ID, "initrd_image_id": initrd.ID, "command_line": "console=ttyS0 panic=1 net.ifnames=0 novacron.test=direct"}
	id := w.succeeds(http.MethodPost, "/api/v1/vms", body).TargetID
	w.says(id, "novacron.test=direct")
	blocks := func() string { return h.Virsh(t, "domblklist", "nova-"+id.String()) }
	if got := blocks(); !strings.Contains(got, "media-") {
		t.Errorf("virsh sees no disc:\n%s", got)
	}
	path := "/api/v1/vms/" + id.String()
	decode[vm.VM](t, w.do(http.MethodDelete, path+"/cdrom", nil), http.StatusOK)
	if got := blocks(); strings.Contains(got, "media-") || !strings.Contains(got, "sda") {
		t.Errorf("after the eject virsh sees:\n%s", got)
	}
	decode[vm.VM](t, w.do(http.MethodPut, path+"/cdrom", map[string]any{"image_id": iso.ID}), http.StatusOK)
	if got := blocks(); !strings.Contains(got, "media-") {
		t.Errorf("after it was put in again virsh sees:\n%s", got)
	}
	for _, want := range []string{"<kernel>", "<initrd>", "novacron.test=direct"} {
		if xml := h.Virsh(t, "dumpxml", "nova-"+id.String()); !strings.Contains(xml, want) {
			t.Errorf("the definition lacks %s:\n%s", want, xml)
		}
	}
	w.succeeds(http.MethodDelete, path, nil)
	if left, _ := filepath.Glob(filepath.Join(w.dir, "node", "disks", "*")); len(left) != 0 {
		t.Errorf("left on the node: %v", left)
	}
}
