package tracing_test

import (
	"strings"
	"testing"

	"github.com/novacron/novacron/internal/platform/tracing"
)

// Without a tracer nothing is recorded, and what a client sent is passed on as it is.
func TestTraceParent(t *testing.T) {
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	for header, want := range map[string]string{
		"00-" + id + "-00f067aa0ba902b7-01":                       id,
		"cc-" + id + "-00f067aa0ba902b7-01-what-comes-later":      id,
		"00-" + id + "-00f067aa0ba902b7-01-x":                     "",
		"ff-" + id + "-00f067aa0ba902b7-01":                       "",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01": "",
		"00-" + id + "-0000000000000000-01":                       "",
		"00-" + strings.ToUpper(id) + "-00f067aa0ba902b7-01":      "",
		"00-" + id: "", "": "", "garbage": "",
	} {
		ctx := tracing.FromClient(t.Context(), func(name string) string { return map[string]string{"traceparent": header}[name] })
		if got := tracing.ID(ctx); got != want {
			t.Errorf("%q gives %q, want %q", header, got, want)
		}
		below, span := tracing.Enter(ctx, tracing.Server, "request")
		span.Name("x")
		span.Set(tracing.String("a", "b"))
		span.End(nil)
		if span.Recorded() || tracing.Recorded(below) {
			t.Errorf("%q is recorded", header)
		}
		if stored := tracing.Parent(below); tracing.ID(tracing.FromStored(t.Context(), stored)) != want {
			t.Errorf("%q is stored as %q", header, stored)
		}
	}
}
