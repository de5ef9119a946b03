package fake_test

import (
	"os/exec"
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/driver/drivertest"
	"github.com/novacron/novacron/internal/vm/internal/driver/fake"
)

func TestConformance(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		d := fake.New()
		d.ShutdownAfter(-1) // an empty disk has no guest that would obey
		return drivertest.Harness{
			Driver: d, Dir: t.TempDir(),
			NewDisk: func(t *testing.T, path string) {
				if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", path, "16M").CombinedOutput(); err != nil {
					t.Fatalf("qemu-img: %v: %s", err, out)
				}
			},
			DestroyBehind: func(_ *testing.T, vm uuid.UUID) { d.DestroyBehind(vm) },
			Leave:         func(*testing.T) { d.Leave() },
			Return:        func(*testing.T) { d.Return() },
		}
	})
}
