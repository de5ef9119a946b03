package otlp

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/novacron/novacron/internal/platform/pki"
	"github.com/novacron/novacron/internal/platform/tracing"
	"github.com/novacron/novacron/internal/platform/tracing/otlp/otlptest"
)

func sender(t *testing.T, cfg Config, reg prometheus.Registerer) *Sender {
	t.Helper()
	s, err := New(t.Context(), cfg, slog.New(slog.DiscardHandler), reg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestSpansArriveOverTLS(t *testing.T) {
	dir := t.TempDir()
	ca, err := pki.Init(filepath.Join(dir, "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	for _, req := range []pki.Request{{Name: "collector", Hosts: []string{"127.0.0.1"}}, {Name: "nova"}} {
		if _, _, err := ca.IssueTo(dir, req); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := pki.LoadPair(filepath.Join(dir, "collector.crt"), filepath.Join(dir, "collector.key"))
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pki.Pool(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	secure := pki.ServerConfig(pair, pool)
	secure.NextProtos = []string{"h2"}
	r := otlptest.Start(t, secure)
	reg := prometheus.NewRegistry()
	cfg := Config{Endpoint: "https://" + r.Address, CAFile: filepath.Join(dir, "ca.crt"), CertFile: filepath.Join(dir, "nova.crt"),
		KeyFile: filepath.Join(dir, "nova.key"), SampleRatio: 1, Version: "1.2.3", Instance: "host-1"}
	s := sender(t, cfg, reg)
	ctx, span := tracing.Enter(tracing.With(t.Context(), s.Tracer()), tracing.Server, "request")
	_, below := tracing.Start(ctx, tracing.Client, "part", tracing.Int("n", 7))
	below.End(errors.New("it said: hunter2"))
	span.End(nil)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	spans := r.Spans(tracing.ID(ctx))
	if got := otlptest.Tree(spans); got != "request\n  part\n" {
		t.Fatalf("got %q of %v", got, r.Spans(""))
	}
	if part := spans[0]; !part.Failed || part.Attrs["n"] != "7" || part.Attrs["error.type"] == "" {
		t.Errorf("got %+v", part)
	}
	for _, v := range spans[0].Attrs {
		if strings.Contains(v, "hunter2") {
			t.Errorf("the text of an error is told: %v", spans[0].Attrs)
		}
	}
	if got := r.Resource(); got["service.name"] != "novacron" || got["service.version"] != "1.2.3" || got["service.instance.id"] != "host-1" {
		t.Errorf("resource %v", got)
	}
	if n := testutil.ToFloat64(counter(t, s, sent)); n != 2 {
		t.Errorf("%v spans are counted as sent", n)
	}

	// Without the certificate the collector takes nothing, and nobody but the counter minds.
	cfg.CertFile, cfg.KeyFile = "", ""
	stranger := sender(t, cfg, nil)
	_, span = tracing.Enter(tracing.With(t.Context(), stranger.Tracer()), tracing.Server, "refused")
	span.End(nil)
	if err := stranger.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := testutil.ToFloat64(counter(t, stranger, failed)); n != 1 {
		t.Errorf("%v spans are counted as failed", n)
	}
}

func counter(t *testing.T, s *Sender, result string) prometheus.Counter {
	t.Helper()
	return s.queue.results.WithLabelValues(result)
}

// stuck is a collector that takes nothing until it is let go.
type stuck struct{ entered, release chan struct{} }

func (s stuck) ExportSpans(ctx context.Context, _ []sdk.ReadOnlySpan) error {
	s.entered <- struct{}{}
	select {
	case <-s.release:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (stuck) Shutdown(context.Context) error { return nil }

// A collector that hangs costs spans, and no request waits for it.
func TestFullQueueDropsAndCounts(t *testing.T) {
	s := stuck{entered: make(chan struct{}, 100), release: make(chan struct{})}
	q, err := newQueue(s, 10, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(q))
	ctx := tracing.With(t.Context(), tracing.NewTracer(provider, func(bool) bool { return true }))
	one := func() {
		_, span := tracing.Enter(ctx, tracing.Server, "request")
		span.End(nil)
	}
	one()
	<-s.entered // it hangs with the first one from here on
	for range 25 {
		one() // would hang here
	}
	if n := testutil.ToFloat64(q.results.WithLabelValues(dropped)); n != 15 {
		t.Errorf("%v spans dropped, want 15", n)
	}
	close(s.release)
	if err := provider.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := testutil.ToFloat64(q.results.WithLabelValues(sent)); n != 11 {
		t.Errorf("%v spans sent, want 11", n)
	}
}

func TestCollectorAwayHoldsNothingUp(t *testing.T) {
	r := sender(t, Config{Endpoint: "http://127.0.0.1:1", SampleRatio: 1}, nil)
	_, span := tracing.Enter(tracing.With(t.Context(), r.Tracer()), tracing.Server, "request")
	span.End(nil)
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := testutil.ToFloat64(counter(t, r, failed)); n != 1 {
		t.Errorf("%v spans failed, want 1", n)
	}
}

// Clients can ask for a trace, but not for the more the more they ask.
func TestClientsAskForFewTraces(t *testing.T) {
	b := &bucket{now: func() time.Time { return time.Unix(1000, 0) }}
	taken := 0
	for range 100 {
		if b.take() {
			taken++
		}
	}
	if taken != askedPerSecond {
		t.Errorf("%d of 100 in one second", taken)
	}
	b.now = func() time.Time { return time.Unix(1001, 0) }
	if !b.take() {
		t.Error("none in the next second")
	}

	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	s := sender(t, Config{Endpoint: "http://127.0.0.1:1", SampleRatio: 0}, nil)
	base := tracing.With(t.Context(), s.Tracer())
	for flag, want := range map[string]bool{"01": true, "00": false} {
		ctx := tracing.FromClient(base, func(name string) string {
			return map[string]string{"traceparent": "00-" + id + "-00f067aa0ba902b7-" + flag}[name]
		})
		ctx, span := tracing.Enter(ctx, tracing.Server, "request")
		if span.Recorded() != want || tracing.ID(ctx) != id {
			t.Errorf("with the flag %s: recorded %v in %s", flag, span.Recorded(), tracing.ID(ctx))
		}
		span.End(nil)
	}
	if _, span := tracing.Enter(base, tracing.Server, "request"); span.Recorded() {
		t.Error("recorded at a ratio of 0")
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, ""},
		{Config{Endpoint: "https://otel.example.org:4317", SampleRatio: .5}, ""},
		{Config{Endpoint: "http://localhost:4317"}, ""},
		{Config{Endpoint: "http://[::1]:4317"}, ""},
		{Config{Endpoint: "http://otel.example.org:4317"}, "on this host"},
		{Config{Endpoint: "otel.example.org:4317"}, "is not https://"},
		{Config{Endpoint: "https://otel.example.org"}, "is not https://"},
		{Config{Endpoint: "https://ada:secret@otel.example.org:4317"}, "is not https://"},
		{Config{Endpoint: "https://\x7f"}, "is not https://"},
		{Config{SampleRatio: 1.1}, "from 0 to 1"},
		{Config{SampleRatio: math.NaN()}, "from 0 to 1"},
		{Config{CertFile: "a"}, "together"},
		{Config{Endpoint: "http://localhost:4317", CAFile: "a"}, "of no use"},
	} {
		err := errors.Join(c.cfg.Validate()...)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%+v: %v", c.cfg, err)
		}
	}
}
