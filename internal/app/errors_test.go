package app

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/novacron/novacron/internal/platform/errs"
)

var update = flag.Bool("update", false, "rewrite docs/errors.md")

func TestErrorReferenceIsUpToDate(t *testing.T) {
	list, err := Errors()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := errs.WriteMarkdown(&b, list); err != nil {
		t.Fatal(err)
	}
	const file = "../../docs/errors.md"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil || string(have) != b.String() {
		t.Errorf("%s is stale; run 'make gen': %v", file, err)
	}
}

// What an operation holds is free when that has ended.
func TestWhatIsLockedCanBeTriedAgain(t *testing.T) {
	list, err := Errors()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if e.Kind == errs.Locked && (!e.Retryable || e.Action == "") {
			t.Errorf("%s: retryable %t, action %q", e.Code, e.Retryable, e.Action)
		}
	}
}
