package httpapi

import (
	"reflect"
	"strings"
	"testing"

	"github.com/novacron/novacron/internal/vm"
)

// TestPutKnowsEveryField: what a machine shows can be sent back, also what was added since.
func TestPutKnowsEveryField(t *testing.T) {
	names := func(t reflect.Type) map[string]bool {
		known := map[string]bool{}
		for _, f := range reflect.VisibleFields(t) {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
				known[name] = true
			}
		}
		return known
	}
	taken := names(reflect.TypeFor[VMPut]())
	for name := range names(reflect.TypeFor[vm.VM]()) {
		if !taken[name] {
			t.Errorf("GET shows %q, and PUT does not know it", name)
		}
	}
}
