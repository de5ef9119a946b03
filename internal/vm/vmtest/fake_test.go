package vmtest_test

import (
	"testing"

	"github.com/novacron/novacron/internal/vm/vmtest"
)

func TestFake(t *testing.T) {
	t.Parallel()
	vmtest.Run(t, func(*testing.T) vmtest.Harness { return vmtest.FakeHarness{Fake: vmtest.New()} })
}
