package authtest_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth/authtest"
)

func TestFake(t *testing.T) {
	t.Parallel()
	authtest.Run(t, func(*testing.T) authtest.Harness {
		return authtest.FakeHarness{Fake: authtest.New(), Tenant: uuid.New()}
	})
}
