package gatewaymodule

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/novacron/novacron/internal/gateway"
	"github.com/novacron/novacron/internal/gateway/internal/docs"
	"github.com/novacron/novacron/internal/gateway/internal/edge"
	"github.com/novacron/novacron/internal/gateway/internal/upstream"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
)

const (
	tagOperations = "operations of the server"
	tagDocs       = "documentation"
)

// register registers the gateway's own routes.
func (m *Module) register() error {
	type healthOutput struct{ Body gateway.Health }
	httpx.Handle(m.kit, httpx.Op{ID: "health", Method: http.MethodGet, Path: "/health", Permission: identity.Public,
		Summary: "Tell that the process lives", Tag: tagOperations,
		Description: "Answers as long as the process can answer at all. Whether it can do its work is told by /ready."},
		func(context.Context, *struct{}) (*healthOutput, error) {
			return &healthOutput{Body: gateway.Health{Status: "ok"}}, nil
		})

	type readyOutput struct {
		Status int
		Body   gateway.Readiness
	}
	httpx.Handle(m.kit, httpx.Op{ID: "ready", Method: http.MethodGet, Path: "/ready", Permission: identity.Public,
		Summary: "Tell whether every module of the process can work", Tag: tagOperations,
		Description: "Answers 200 only when every module that this process runs is ready, and 503 with the same body otherwise."},
		func(ctx context.Context, _ *struct{}) (*readyOutput, error) {
			out := &readyOutput{Status: http.StatusOK, Body: m.readyNow(ctx)}
			if out.Body.Status != gateway.StatusReady {
				out.Status = http.StatusServiceUnavailable
			}
			return out, nil
		})

	m.kit.Raw(httpx.Op{ID: "metrics", Method: http.MethodGet, Path: "/metrics", Permission: identity.Public,
		Summary: "Show the process's metrics to Prometheus", Tag: tagOperations},
		httpx.RawDoc{AnswerType: "text/plain", AnswerText: "The metrics in the text format, or in OpenMetrics where the client accepts it."},
		m.scrapes())

	type infoOutput struct{ Body gateway.Info }
	httpx.Handle(m.kit, httpx.Op{ID: "info", Method: http.MethodGet, Path: "/api/v1/info", Permission: identity.Public,
		Summary: "Tell what this installation is", Tag: tagOperations},
		func(context.Context, *struct{}) (*infoOutput, error) {
			return &infoOutput{Body: gateway.Info{Name: "NovaCron", Version: m.deps.Build.Version, Commit: m.deps.Build.Commit, BuiltAt: m.deps.Build.Date,
				APIVersions: []string{gateway.APIVersion}, DefaultVersion: gateway.APIVersion, Modules: append([]string{}, m.deps.Modules...),
				Time: m.deps.Now().UTC()}}, nil
		})

	type routesOutput struct{ Body httpx.Page[gateway.Route] }
	httpx.Handle(m.kit, httpx.Op{ID: "gateway-route-list", Method: http.MethodGet, Path: "/api/v1/gateway/routes", Permission: "gateway:read",
		Summary: "List the routes that are served, with the module and the permission of each", Tag: "gateway"},
		func(context.Context, *struct{}) (*routesOutput, error) {
			now := m.live.Load()
			rows := now.state.Table.Rows()
			page := httpx.Page[gateway.Route]{Items: make([]gateway.Route, 0, len(rows))}
			for _, r := range rows {
				page.Items = append(page.Items, now.cfg.shown(r))
			}
			return &routesOutput{Body: page}, nil
		})
	return m.registerDocs()
}

// mostScrapes is how many may read the metrics at once: each takes memory for all of them.
const mostScrapes = 4

// scrapes gives the handler of /metrics. It is bounded here because promhttp's own refusal does not say when to come back.
func (m *Module) scrapes() http.HandlerFunc {
	metrics := promhttp.HandlerFor(m.deps.Gatherer, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(m.deps.Log.Handler(), slog.LevelWarn),
		ErrorHandling: promhttp.ContinueOnError, EnableOpenMetrics: true})
	room := make(chan struct{}, mostScrapes)
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case room <- struct{}{}:
			defer func() { <-room }()
			metrics.ServeHTTP(w, r)
		default:
			httpx.WriteError(w, r, gateway.ErrOverloaded.WithMessage("%d others are reading the metrics, which is as many as may", mostScrapes).WithMeta(httpx.MetaRetryAfter, "1"))
		}
	}
}

// shown tells what holds for a route: by its own rules, by the service that it is asked of, and by what holds for all.
func (c Config) shown(r edge.Row) gateway.Route {
	out := gateway.Route{Method: r.Method, Path: r.Path, Module: r.Module, Permission: r.Permission, OperationID: r.OperationID, Upstream: "local",
		AuthRequired: r.Policy.AuthRequired, Permissions: append([]string{}, r.Policy.Permissions...), RateLimit: r.Policy.RateText, Cost: r.Policy.Cost,
		CacheSeconds: int(r.Policy.CacheTTL.Seconds()), TimeoutMS: r.TimeLimit(c.Timeout).Milliseconds(), Retries: max(r.Policy.Retries, 0),
		Deprecated: r.Policy.DeprecatedOn, Sunset: r.Policy.SunsetOn}
	if r.URL == "" {
		return out
	}
	out.Upstream = r.URL
	for _, svc := range c.Services {
		if svc.Name == r.Module {
			svc = svc.Defaults()
			out.Retries, out.MaxInFlight = upstream.Retries(svc.Retries, r.Policy.Retries), svc.InFlight
			out.CircuitBreaker = &gateway.CircuitBreaker{Failures: svc.Failures, OpenForMS: svc.OpenFor.Milliseconds()}
		}
	}
	return out
}

func (m *Module) registerDocs() error {
	pages, err := docs.New(m.deps.Errors)
	if err != nil {
		return err
	}
	page := func(id, path, summary, contentType string, h http.HandlerFunc) {
		m.kit.Raw(httpx.Op{ID: id, Method: http.MethodGet, Path: path, Permission: identity.Public, Summary: summary, Tag: tagDocs},
			httpx.RawDoc{AnswerType: contentType, AnswerText: summary + "."}, h)
	}
	page("docs", "/docs", "The interactive documentation of this API", "text/html", pages.Index.ServeHTTP)
	page("docs-errors", "/docs/errors", "The reference of error codes", "text/html", pages.Errors.ServeHTTP)
	page("docs-file", "/docs/{file}", "A file that the documentation's pages need", "*/*",
		pages.File(func(r *http.Request) string { return chi.URLParam(r, "file") }))
	// The document has these two routes in it, so it is complete only when they are registered.
	page("openapi-json", "/api/v1/openapi.json", "The OpenAPI 3.1 document of everything that is served, as JSON", "application/json",
		func(w http.ResponseWriter, r *http.Request) { m.live.Load().json.ServeHTTP(w, r) })
	page("openapi-yaml", "/api/v1/openapi.yaml", "The OpenAPI 3.1 document of everything that is served, as YAML", "application/yaml",
		func(w http.ResponseWriter, r *http.Request) {
			file, err := m.live.Load().yaml()
			if err != nil {
				httpx.WriteError(w, r, err)
				return
			}
			file.ServeHTTP(w, r)
		})
	return nil
}
