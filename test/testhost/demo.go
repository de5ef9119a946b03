package testhost

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// DemoImage is the path of the demo guest's disk, bin/demo.qcow2 of this repository. It is built when it is missing or older than what
// it is made of, once for however many tests ask at the same time. Use it as a backing file only.
func DemoImage(t testing.TB) string {
	t.Helper()
	root := repository(t)
	for _, tool := range []string{"apt-get", "busybox", "qemu-ga", "qemu-img", "syslinux", "mcopy"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the demo image needs %s; 'deploy/host/prepare.sh packages image' installs it", tool)
		}
	}
	image := filepath.Join(root, "bin", "demo.qcow2")
	if out, err := exec.Command(filepath.Join(root, "deploy", "demo-image", "build.sh"), image).CombinedOutput(); err != nil {
		t.Fatalf("build the demo image: %v\n%s", err, out)
	}
	return image
}

// repository is the folder of the repository that the test belongs to.
func repository(t testing.TB) string {
	t.Helper()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			return root
		}
		if root == filepath.Dir(root) {
			t.Fatal("the images of guests belong to a repository, and this is none")
		}
		root = filepath.Dir(root)
	}
}
