package vmmodule

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/authtest"
	"github.com/novacron/novacron/internal/gateway/gatewaymodule"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/tracing"
	"github.com/novacron/novacron/internal/platform/tracing/otlp"
	"github.com/novacron/novacron/internal/platform/tracing/otlp/otlptest"
)

// One creation through the real gateway, with a restart in its middle, is one trace at a real collector: request, operation, steps,
// commands to the node, queries. Nothing in it is a secret or what the user sent.
func TestCreationIsOneTrace(t *testing.T) {
	collector := otlptest.Start(t, nil)
	sender, err := otlp.New(t.Context(), otlp.Config{Endpoint: "http://" + collector.Address, SampleRatio: 1, Instance: "test"}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sender.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	ctx := tracing.With(t.Context(), sender.Tracer())
	w := newWorldIn(ctx, t, func(*world, *Config) {})

	identities := authtest.New()
	tenant := uuid.New()
	token := identities.Issue(identities.AddUser("ada", auth.RoleOperator, tenant).ID, time.Hour)
	known, err := identities.ValidateToken(t.Context(), auth.ValidateTokenRequest{Token: token})
	if err != nil {
		t.Fatal(err)
	}
	w.tenant = known.Principal
	cfg := gatewaymodule.Default()
	cfg.Listen = "127.0.0.1:0"
	gateway, err := gatewaymodule.New(cfg, gatewaymodule.Deps{Auth: identities, Surfaces: []gatewaymodule.Surface{w.vm}, Gatherer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	send := func(method, path string, body any) *httptest.ResponseRecorder {
		var text string
		if body != nil {
			encoded, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			text = string(encoded)
		}
		r := httptest.NewRequest(method, path, strings.NewReader(text)).WithContext(ctx)
		for name, value := range map[string]string{"Content-Type": "application/json", "Authorization": "Bearer " + token, "X-Request-Id": "req-1",
			"Traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"} {
			r.Header.Set(name, value)
		}
		rec := httptest.NewRecorder()
		gateway.Edge().ServeHTTP(rec, r)
		return rec
	}

	img := w.image()
	var failing atomic.Bool
	failing.Store(true)
	reached := make(chan struct{}, 100)
	w.failing(func(kind, step, when string) error {
		if failing.Load() && kind == "vm.create" && step == "define" && when == "before do" {
			reached <- struct{}{}
			return errs.New(errs.Unavailable, "test.away", "not yet")
		}
		return nil
	})
	request := createRequest("trace-secret-name", img.ID)
	request["user_data"] = "#cloud-config\npassword: hunter2\n"
	begun := decode[op](t, send(http.MethodPost, "/api/v1/vms", request), http.StatusAccepted)
	<-reached
	if err := w.vm.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	failing.Store(false)
	w.driver = w.driver.Reborn()
	if err := w.vm.Start(ctx); err != nil {
		t.Fatal(err)
	}
	w.eventually("the creation ends well", func() bool {
		return decode[op](t, w.do(http.MethodGet, "/api/v1/operations/"+begun.ID.String(), nil), http.StatusOK).Status == "succeeded"
	})

	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	var spans []otlptest.Span
	w.eventually("the trace has arrived", func() bool {
		if err := sender.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		spans = collector.Spans(id)
		return len(named(spans, "step vm.create start")) > 0 && ended(spans)
	})
	root := named(spans, "POST /api/v1/vms")
	if len(root) != 1 || root[0].Parent != "00f067aa0ba902b7" {
		t.Fatalf("the request: %+v", root)
	}
	for key, want := range map[string]string{"http.route": "/api/v1/vms", "http.response.status_code": "202", "novacron.tenant_id": tenant.String(), "novacron.request_id": "req-1", "novacron.module": "vm"} {
		if root[0].Attrs[key] != want {
			t.Errorf("%s is %q, want %q", key, root[0].Attrs[key], want)
		}
	}
	runs := named(spans, "operation vm.create")
	if len(runs) < 2 {
		t.Errorf("%d runs before and after the restart", len(runs))
	}
	for _, run := range runs {
		if run.Parent != root[0].ID || run.Attrs["novacron.operation_id"] != begun.ID.String() {
			t.Errorf("the run %+v is not below the request", run)
		}
	}
	above := map[string]otlptest.Span{}
	for _, s := range spans {
		above[s.ID] = s
	}
	for name, parent := range map[string]string{"step vm.create place": "operation vm.create", "step vm.create define": "operation vm.create", "step vm.create start": "operation vm.create",
		"call vm.node.*.cmd": "step vm.create ", "node vm.start": "call vm.node.*.cmd"} {
		found := false
		for _, s := range named(spans, name) {
			found = found || strings.HasPrefix(above[s.Parent].Name, parent)
		}
		if !found {
			t.Errorf("no %q below %q", name, parent)
		}
	}
	queries := map[string]int{}
	for _, s := range spans {
		if strings.HasPrefix(s.Name, "sql ") {
			queries[strings.SplitN(above[s.Parent].Name, " ", 2)[0]]++
		}
		for key, value := range s.Attrs {
			for _, secret := range []string{token, "hunter2", "trace-secret-name"} {
				if strings.Contains(value, secret) {
					t.Errorf("%s of %s tells %q", key, s.Name, value)
				}
			}
		}
	}
	if queries["POST"] == 0 || queries["operation"] == 0 {
		t.Errorf("queries by what is above them: %v", queries)
	}
	if t.Failed() {
		t.Log("\n" + otlptest.Tree(spans))
	}
}

func named(spans []otlptest.Span, name string) []otlptest.Span {
	var list []otlptest.Span
	for _, s := range spans {
		if s.Name == name {
			list = append(list, s)
		}
	}
	return list
}

// ended tells whether a run has ended that made the last step.
func ended(spans []otlptest.Span) bool {
	last := named(spans, "step vm.create start")
	for _, run := range named(spans, "operation vm.create") {
		if run.ID == last[len(last)-1].Parent {
			return true
		}
	}
	return false
}
