package testhost

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// DebianImage is the path of a whole Debian's disk, which test/debian-image builds: for what the demo guest, with its own small cloud-init, cannot
// tell. Building takes a minute or two where `make debian-image` has not done it. Use it as a backing file only, or upload it.
func DebianImage(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("building the Debian image needs root")
	}
	for _, tool := range []string{"apt-get", "mmdebstrap", "qemu-img", "syslinux", "mcopy"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the Debian image needs %s; 'deploy/host/prepare.sh packages image test' installs it", tool)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	image := filepath.Join(cache, "novacron-test", "debian.qcow2")
	if out, err := exec.Command(filepath.Join(repository(t), "test", "debian-image", "build.sh"), image).CombinedOutput(); err != nil {
		t.Fatalf("build the Debian image: %v\n%s", err, out)
	}
	return image
}
