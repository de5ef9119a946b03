// Package telemetry makes the process's metrics registry and measures HTTP requests under the names that dashboards rely on:
// http_request_duration_seconds, active_connections and errors_total. There is no global registry: main makes one and hands it down.
package telemetry

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/novacron/novacron/internal/platform/tracing"
)

// Build says which program this is.
type Build struct {
	Version string // "0.1.0"
	Commit  string
	Date    string // of the commit, RFC 3339; may be empty
}

// NewRegistry makes a registry with the collectors of the Go runtime and of the process, and the gauge novacron_build_info.
func NewRegistry(b Build) (*prometheus.Registry, error) {
	reg := prometheus.NewRegistry()
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "novacron_build_info", Help: "Which program this is; the value is always 1.",
	}, []string{"version", "commit", "go_version"})
	info.WithLabelValues(b.Version, b.Commit, runtime.Version()).Set(1)
	return reg, Register(reg, "the process", collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), info)
}

// Register registers collectors of what is named, for the error. A nil Registerer leaves them unregistered.
func Register(reg prometheus.Registerer, of string, list ...prometheus.Collector) error {
	if reg == nil {
		return nil
	}
	for _, c := range list {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("register metrics of %s: %w", of, err)
		}
	}
	return nil
}

// HTTP holds the metrics of HTTP servers. Its methods may be called concurrently.
type HTTP struct {
	duration *prometheus.HistogramVec
	active   *prometheus.GaugeVec
	errors   *prometheus.CounterVec
}

// NewHTTP makes the metrics and registers them. A nil Registerer leaves them unregistered.
func NewHTTP(reg prometheus.Registerer) (*HTTP, error) {
	h := &HTTP{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "http_request_duration_seconds", Help: "HTTP request duration in seconds.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"service", "method", "endpoint", "status_code"}),
		active: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "active_connections", Help: "Number of active connections.",
		}, []string{"service", "type"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "errors_total", Help: "Total number of errors; type is client (4xx) or server (5xx).",
		}, []string{"service", "type", "error_code"}),
	}
	return h, Register(reg, "HTTP", h.duration, h.active, h.errors)
}

// Unmatched is the endpoint of requests that no route matches. A raw path never becomes a label: there is no end of them.
const Unmatched = "unmatched"

// Observe notes one finished request. endpoint is the pattern of the route, or Unmatched; code is the problem's code, or "". A request whose
// trace is recorded becomes an exemplar, by which a dashboard finds its trace.
func (h *HTTP) Observe(ctx context.Context, service, method, endpoint string, status int, code string, took time.Duration) {
	series := h.duration.WithLabelValues(service, MethodLabel(method), endpoint, strconv.Itoa(status))
	if tracing.Recorded(ctx) {
		series.(prometheus.ExemplarObserver).ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": tracing.ID(ctx)}) //nolint:forcetypeassert // every histogram is one
	} else {
		series.Observe(took.Seconds())
	}
	if status < http.StatusBadRequest {
		return
	}
	kind := "client"
	if status >= http.StatusInternalServerError {
		kind = "server"
	}
	if code == "" {
		code = "http_" + strconv.Itoa(status)
	}
	h.errors.WithLabelValues(service, kind, code).Inc()
}

// MethodLabel keeps made-up methods from becoming labels.
func MethodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	default:
		return "OTHER"
	}
}

// ConnState is for http.Server.ConnState: it counts a server's open connections as active_connections{type="http"}, and those that a
// handler took over, for example for a websocket, no longer.
func (h *HTTP) ConnState(service string) func(net.Conn, http.ConnState) {
	gauge := h.active.WithLabelValues(service, "http")
	var open sync.Map // net.Conn → struct{}: StateClosed also comes for connections whose first state was never told
	return func(c net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			open.Store(c, struct{}{})
			gauge.Inc()
		case http.StateHijacked, http.StateClosed:
			if _, ok := open.LoadAndDelete(c); ok {
				gauge.Dec()
			}
		default:
		}
	}
}

// Stream counts a long-lived answer, such as a websocket or an event stream, until the function it gives is called.
func (h *HTTP) Stream(service, kind string) (end func()) {
	gauge := h.active.WithLabelValues(service, kind)
	gauge.Inc()
	return sync.OnceFunc(gauge.Dec)
}
