package telemetry_test

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/novacron/novacron/internal/platform/telemetry"
)

func TestNames(t *testing.T) {
	reg, err := telemetry.NewRegistry(telemetry.Build{Version: "1.2.3", Commit: "abc"})
	if err != nil {
		t.Fatal(err)
	}
	h, err := telemetry.NewHTTP(reg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := telemetry.NewHTTP(reg); err == nil {
		t.Error("registered twice without an error")
	}
	h.Observe(t.Context(), "vm", "GET", "/api/v1/vms/{id}", 200, "", time.Millisecond)
	h.Observe(t.Context(), "vm", "GET", "/api/v1/vms/{id}", 404, "vm.not_found", time.Millisecond)
	h.Observe(t.Context(), "gateway", "FROBNICATE", telemetry.Unmatched, 500, "", time.Millisecond)
	states := h.ConnState("gateway")
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	states(a, http.StateNew)
	states(b, http.StateNew)
	states(a, http.StateActive)
	states(b, http.StateHijacked)
	states(b, http.StateClosed)
	end := h.Stream("gateway", "websocket")

	want := `
# HELP active_connections Number of active connections.
# TYPE active_connections gauge
active_connections{service="gateway",type="http"} 1
active_connections{service="gateway",type="websocket"} 1
# HELP errors_total Total number of errors; type is client (4xx) or server (5xx).
# TYPE errors_total counter
errors_total{error_code="http_500",service="gateway",type="server"} 1
errors_total{error_code="vm.not_found",service="vm",type="client"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "active_connections", "errors_total"); err != nil {
		t.Error(err)
	}
	end()
	end()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			got[f.GetName()] += strings.Join(labels, ",") + ";"
		}
	}
	if s := got["http_request_duration_seconds"]; !strings.Contains(s, "endpoint=/api/v1/vms/{id},method=GET,service=vm,status_code=404;") ||
		!strings.Contains(s, "method=OTHER") {
		t.Errorf("durations: %s", s)
	}
	if !strings.Contains(got["novacron_build_info"], "version=1.2.3") || got["go_goroutines"] == "" || got["process_open_fds"] == "" {
		t.Errorf("got %v", got)
	}
	closed := strings.Replace(want, `type="websocket"} 1`, `type="websocket"} 0`, 1)
	if err := testutil.GatherAndCompare(reg, strings.NewReader(closed), "active_connections", "errors_total"); err != nil {
		t.Errorf("after the stream ended twice: %v", err)
	}
}
