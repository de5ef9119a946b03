package gatewaymodule_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/gateway/gatewaymodule"
	"github.com/novacron/novacron/internal/platform/hop"
	"github.com/novacron/novacron/internal/platform/tracing"
	"github.com/novacron/novacron/internal/platform/tracing/otlp"
	"github.com/novacron/novacron/internal/platform/tracing/otlp/otlptest"
)

// traced gives a collector and a context in which spans are sent to it.
func traced(t *testing.T) (*otlptest.Receiver, *otlp.Sender, context.Context) {
	t.Helper()
	collector := otlptest.Start(t, nil)
	sender, err := otlp.New(t.Context(), otlp.Config{Endpoint: "http://" + collector.Address, SampleRatio: 1}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sender.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return collector, sender, tracing.With(t.Context(), sender.Tracer())
}

// A request to a module in another process is one trace in both; a client's trace is gone on with, and what is asked by machines has none.
func TestTraceCrossesToAnotherProcess(t *testing.T) {
	collector, sender, ctx := traced(t)
	a := newAuthority(t)
	cert, key := a.files("module")
	module := newThings()
	server, err := hop.Serve(ctx, hop.Config{Listen: "127.0.0.1:0", CertFile: cert, KeyFile: key, CAFile: a.ca},
		hop.Mount(module, hop.NewVerifier("things", "gateway"), slog.New(slog.DiscardHandler), nil))
	if err != nil {
		t.Fatal(err)
	}
	defer stopServer(t, server)
	d := through(t, a, gatewaymodule.Service{Name: "things", URLs: []string{"https://" + server.Addr().String()}})
	d.reached(t)
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	ask := func(path string) {
		r := httptest.NewRequest(http.MethodGet, path, nil).WithContext(ctx)
		for name, value := range map[string]string{"Authorization": "Bearer " + d.admin, "Traceparent": "00-" + id + "-00f067aa0ba902b7-00"} {
			r.Header.Set(name, value)
		}
		d.Edge().ServeHTTP(httptest.NewRecorder(), r)
	}
	ask("/health")
	ask("/api/v1/things/" + uuid.NewString())
	ask("/api/v1/nothing-" + uuid.NewString())
	const want = "GET /api/v1/things/{id}\n  GET things\n    GET /api/v1/things/{id}\nGET unmatched\n"
	got := ""
	for deadline := time.Now().Add(patience); strings.Count(got, "\n") < strings.Count(want, "\n") && time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
		if err := sender.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		got = otlptest.Tree(collector.Spans(id))
	}
	if got != want {
		t.Errorf("got\n%s", got)
	}
	for _, s := range collector.Spans("") {
		for key, value := range s.Attrs {
			if strings.Contains(value, d.admin) || strings.Contains(value, "nothing-") {
				t.Errorf("%s of %s tells %q", key, s.Name, value)
			}
		}
	}
}
