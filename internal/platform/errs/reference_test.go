package errs_test

import (
	"strings"
	"testing"

	"github.com/novacron/novacron/internal/platform/errs"
)

func TestReference(t *testing.T) {
	a := errs.New(errs.NotFound, "vm.not_found", "there is no such | machine").WithAction("List them.")
	b := errs.New(errs.Unavailable, "bus.closed", "the bus is closed")
	list, err := errs.Reference([]*errs.Error{a}, []*errs.Error{b, a})
	if err != nil || len(list) != 2 || list[0] != b {
		t.Fatalf("got %v, %v", list, err)
	}
	var page strings.Builder
	if err := errs.WriteMarkdown(&page, list); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`| <a id="bus.closed"></a>` + "`bus.closed` | 503 | yes | the bus is closed |  |",
		`404 | no | there is no such \| machine | List them. |`,
	} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("%s is missing in\n%s", want, page.String())
		}
	}
	if _, err := errs.Reference([]*errs.Error{a}, []*errs.Error{errs.New(errs.Conflict, "vm.not_found", "another")}); err == nil {
		t.Error("one code for two errors was accepted")
	}
}
