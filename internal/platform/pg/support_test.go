package pg_test

import (
	"errors"
	"testing"

	"github.com/novacron/novacron/internal/platform/errs"
)

// actionOf gives what an error tells its reader to do.
func actionOf(t *testing.T, err error) string {
	t.Helper()
	e, ok := errors.AsType[*errs.Error](err)
	if !ok || e.Action == "" {
		t.Fatalf("%v says nothing to do", err)
	}
	return e.Action
}
