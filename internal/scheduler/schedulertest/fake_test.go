package schedulertest_test

import (
	"testing"

	"github.com/novacron/novacron/internal/scheduler/schedulertest"
)

func TestFake(t *testing.T) {
	schedulertest.Run(t, func(*testing.T) schedulertest.Subject {
		f := schedulertest.NewFake()
		return schedulertest.Subject{Service: f, Heartbeat: f.Heartbeat, SetQuota: f.SetQuota, Expire: f.Expire, Sweep: f.Sweep}
	})
}
