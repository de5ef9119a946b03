package membus_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/bustest"
	"github.com/novacron/novacron/internal/bus/membus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	bustest.Run(t, func(*testing.T) bus.Bus { return membus.New() })
}
