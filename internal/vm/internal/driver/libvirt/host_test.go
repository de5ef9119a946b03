package libvirt_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

type host struct{ dir string }

func startHost(t *testing.T, name string) *host { return &host{"/tmp/nodehv/nvnode1"} }
func (h *host) URI() string                     { return "qemu+unix:///system?socket=" + h.dir + "/run/libvirt/libvirt-sock" }
func (h *host) killLibvirtd(t *testing.T) {
	b, _ := os.ReadFile(h.dir + "/run/libvirtd.pid")
	run(t, "kill", "-9", strings.TrimSpace(string(b)))
}
func (h *host) startLibvirtd(t *testing.T) {
	out, err := exec.Command("bash", "-c", "cd "+h.dir+"; p=$(cat run/virtlogd.pid); nsenter -t $p -m -u -n libvirtd -l -d").CombinedOutput()
	if err != nil {
		t.Fatal(err, string(out))
	}
	_ = time.Now
}
