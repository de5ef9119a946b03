package pg_test

import (
	"testing"

	"github.com/novacron/novacron/internal/platform/pg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }
