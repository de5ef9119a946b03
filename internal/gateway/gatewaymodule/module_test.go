package gatewaymodule_test

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"gopkg.in/yaml.v3"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/gateway"
	"github.com/novacron/novacron/internal/gateway/gatewaymodule"
	"github.com/novacron/novacron/internal/gateway/gatewaytest"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
)

func TestPaths(t *testing.T) {
	d := open(t, nil)
	id := uuid.NewString()
	for _, c := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/api/v1/things/" + id, 200, ""},
		{"GET", "/api/things/" + id, 200, ""},
		{"GET", "/api/v1/things/", 200, ""},
		{"GET", "/api/things/?limit=3", 200, ""},
		{"GET", "/api/v1/%74hings", 200, ""},
		{"HEAD", "/api/v1/things", 200, ""},
		{"POST", "/auth/anyone", 200, ""},
		{"POST", "/api/auth/anyone", 200, ""},
		{"POST", "/api/v1/auth/anyone/", 200, ""},
		{"GET", "/health", 200, ""},
		{"GET", "/api/info", 200, ""},
		{"GET", "/", 404, "route.not_found"},
		{"GET", "/api", 404, "route.not_found"},
		{"GET", "/api/", 404, "route.not_found"},
		{"GET", "/api/v2/things", 404, "route.not_found"},
		{"GET", "/api/v1/api/v1/things", 404, "route.not_found"},
		{"GET", "/api/v1//things", 404, "route.not_found"},
		{"GET", "/api/v1/things/../things", 404, "route.not_found"},
		{"GET", "/api/v1/nothing", 404, "route.not_found"},
		{"GET", "/api/v1/things/a%2Fb", 422, "request.invalid"},
		{"DELETE", "/api/v1/things", 405, "route.method_not_allowed"},
		{"FROB", "/api/v1/things", 405, "route.method_not_allowed"},
		{"OPTIONS", "/api/v1/things", 405, "route.method_not_allowed"},
		{"GET", "/api/auth/anyone", 405, "route.method_not_allowed"},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			a := d.do(t, c.method, c.path, d.admin, nil)
			if a.status != c.status {
				t.Fatalf("answered %d %s", a.status, a.body)
			}
			if c.code != "" {
				p := a.problem(t)
				wantInstance, _, _ := strings.Cut(strings.ReplaceAll(c.path, "%2F", "/"), "?")
				if p.Code != c.code || p.Instance != wantInstance || p.RequestID == "" || p.RequestID != a.header.Get("X-Request-ID") {
					t.Errorf("problem %+v", p)
				}
			}
			if c.status == 405 && strings.Contains(c.path, "things") && a.header.Get("Allow") != "GET, HEAD, POST" {
				t.Errorf("Allow: %s", a.header.Get("Allow"))
			}
			if a.header.Get("API-Version") != "v1" || a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("X-Frame-Options") != "DENY" {
				t.Errorf("headers %v", a.header)
			}
			if c.method == "HEAD" && (a.body != "" || a.header.Get("Content-Length") == "0") {
				t.Errorf("HEAD answered %q, %v", a.body, a.header)
			}
		})
	}
}

func TestHeadOfAStreamEnds(t *testing.T) {
	if a := open(t, nil).do(t, "HEAD", "/api/v1/events", "", nil); a.status != 200 || a.header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("got %+v", a)
	}
}

func TestCredentials(t *testing.T) {
	d := open(t, nil)
	revoked := d.auth.Issue(d.auth.AddUser("gone", auth.RoleAdmin, uuid.New()).ID, time.Hour)
	d.auth.Revoke(revoked)
	eve := d.validate(t, d.viewer)
	key := d.key(t, auth.CreateAPIKeyRequest{Actor: eve, Name: "ci"})
	gone := d.key(t, auth.CreateAPIKeyRequest{Actor: eve, Name: "gone"})
	d.auth.RevokeAPIKey(gone.APIKey.ID)
	for name, c := range map[string]struct {
		header []string
		status int
		code   string
	}{
		"none":            {nil, 401, "auth.unauthenticated"},
		"good":            {[]string{"Authorization", "Bearer " + d.viewer}, 200, ""},
		"scheme's case":   {[]string{"Authorization", "bearer " + d.viewer}, 200, ""},
		"unknown":         {[]string{"Authorization", "Bearer nonsense"}, 401, "auth.invalid_token"},
		"revoked":         {[]string{"Authorization", "Bearer " + revoked}, 401, "auth.session_revoked"},
		"empty":           {[]string{"Authorization", "Bearer "}, 401, "gateway.unsupported_credentials"},
		"basic":           {[]string{"Authorization", "Basic cm9vdDpyb290"}, 401, "gateway.unsupported_credentials"},
		"token alone":     {[]string{"Authorization", d.viewer}, 401, "gateway.unsupported_credentials"},
		"two kinds":       {[]string{"Authorization", "Bearer " + d.viewer, "X-API-Key", "k"}, 400, "gateway.ambiguous_credentials"},
		"two of one kind": {[]string{"Authorization", "Bearer " + d.viewer, "Authorization", "Bearer " + d.admin}, 400, "gateway.ambiguous_credentials"},
		"an API key":      {[]string{"X-API-Key", key.Secret}, 200, ""},
		"a wrong one":     {[]string{"X-API-Key", "k"}, 401, "auth.invalid_api_key"},
		"an empty one":    {[]string{"X-API-Key", ""}, 401, "auth.invalid_api_key"},
		"a revoked one":   {[]string{"X-API-Key", gone.Secret}, 401, "auth.api_key_revoked"},
		"two of them":     {[]string{"X-API-Key", key.Secret, "X-API-Key", key.Secret}, 400, "gateway.ambiguous_credentials"},
		"one as bearer":   {[]string{"Authorization", "Bearer " + key.Secret}, 401, "gateway.api_key_as_bearer"},
	} {
		t.Run(name, func(t *testing.T) {
			a := d.do(t, "GET", "/api/v1/whoami", "", nil, c.header...)
			if a.status != c.status {
				t.Fatalf("answered %d %s", a.status, a.body)
			}
			if c.code == "" {
				if !strings.Contains(a.body, `"username":"eve"`) {
					t.Errorf("got %s", a.body)
				}
				return
			}
			if p := a.problem(t); p.Code != c.code {
				t.Errorf("code %s, want %s", p.Code, c.code)
			}
			if c.status == 401 && !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("WWW-Authenticate: %s", a.header.Get("WWW-Authenticate"))
			}
			// An unknown route tells nobody whether their credentials are good.
			if b := d.do(t, "GET", "/api/v1/nothing", "", nil, c.header...); b.status != 404 {
				t.Errorf("an unknown route answers %d", b.status)
			}
			// A public one does not look at them.
			if b := d.do(t, "GET", "/health", "", nil, c.header...); b.status != 200 {
				t.Errorf("a public route answers %d", b.status)
			}
		})
	}
	if log := d.log.String(); strings.Contains(log, key.Secret) || !strings.Contains(log, key.APIKey.ID.String()) {
		t.Errorf("the log must name the key and not hold it: %s", log)
	}
	if a := d.do(t, "GET", "/api/v1/things", d.viewer, nil); a.status != 403 || a.problem(t).Meta["permission"] != "thing:read" {
		t.Errorf("a permission that is missing: %d %s", a.status, a.body)
	}
	if strings.Contains(d.log.String(), d.viewer) || strings.Contains(d.log.String(), revoked) {
		t.Error("a token is in the log")
	}
}

func TestRequestIDAndClient(t *testing.T) {
	d := open(t, nil)
	for id, kept := range map[string]bool{
		"abc-123_X.y": true, strings.Repeat("a", 64): true, strings.Repeat("a", 65): false, "a b": false, "<script>": false, `a"b`: false,
	} {
		a := d.do(t, "GET", "/api/v1/whoami", d.viewer, nil, "X-Request-ID", id, "User-Agent", "test/1 "+strings.Repeat("x", 300))
		got := a.header.Get("X-Request-ID")
		if (got == id) != kept || !strings.Contains(a.body, `"request_id":"`+got+`"`) {
			t.Errorf("%q became %q: %s", id, got, a.body)
		}
		if !kept {
			if parsed, err := uuid.Parse(got); err != nil || parsed.Version() != 7 {
				t.Errorf("made %q", got)
			}
		}
		if !strings.Contains(a.body, `"address":"127.0.0.1"`) || !strings.Contains(a.body, `"user_agent":"test/1 x`) || len(a.body) > 500 {
			t.Errorf("client %s", a.body)
		}
		if !strings.Contains(d.log.String(), `"request_id":"`+got+`"`) {
			t.Errorf("%s is not in the log", got)
		}
	}
}

func TestPanics(t *testing.T) {
	d := open(t, nil)
	if p := d.do(t, "GET", "/api/v1/panic", "", nil).problem(t); p.Status != 500 || p.Code != "internal" || strings.Contains(p.Detail, "broken") {
		t.Errorf("got %+v", p)
	}
	if !strings.Contains(d.log.String(), "the handler is broken") || !strings.Contains(d.log.String(), "support_test.go") {
		t.Error("the panic and where it was are not in the log")
	}
	resp, err := http.Get(d.url + "/api/v1/panic-late")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("half an answer looks like a whole one: %q", b)
	}
}

func TestReadiness(t *testing.T) {
	d := open(t, nil)
	read := func() (int, gateway.Readiness) {
		t.Helper()
		a := d.do(t, "GET", "/ready", "", nil)
		var r gateway.Readiness
		if err := json.Unmarshal([]byte(a.body), &r); err != nil {
			t.Fatalf("%v in %s", err, a.body)
		}
		return a.status, r
	}
	if status, r := read(); status != 200 || r.Status != "ready" || !r.Modules["things"].Ready {
		t.Errorf("got %d %+v", status, r)
	}
	d.setState("things", errs.New(errs.Unavailable, "thing.away", "the things are away").Wrap(errors.New("dial 10.0.0.7")))
	d.setState("other", errors.New("dial 10.0.0.8"))
	status, r := read()
	want := map[string]gateway.ModuleReadiness{"things": {Error: "thing.away: the things are away"},
		"other": {Error: "not ready; the cause is in the log of the server"}}
	if diff := cmp.Diff(want, r.Modules); diff != "" || status != 503 || r.Status != "not_ready" {
		t.Errorf("got %d %s %s", status, r.Status, diff)
	}
	if !strings.Contains(d.log.String(), "10.0.0.8") {
		t.Error("the cause is not in the log")
	}
	d.setState("gateway", errors.New("not yet"))
	if status, r := read(); status != 503 || r.Status != "starting" {
		t.Errorf("got %d %s", status, r.Status)
	}
	if a := d.do(t, "GET", "/health", "", nil); a.status != 200 || !strings.Contains(a.body, `"status":"ok"`) {
		t.Errorf("health: %+v", a)
	}
}

func TestInfoRoutesAndMetrics(t *testing.T) {
	d := open(t, nil)
	var info gateway.Info
	if err := json.Unmarshal([]byte(d.do(t, "GET", "/api/v1/info", "", nil).body), &info); err != nil {
		t.Fatal(err)
	}
	if info.Version != "1.2.3" || info.Commit != "abc" || len(info.Modules) != 2 || info.APIVersions[0] != "v1" || time.Since(info.Time) > patience {
		t.Errorf("got %+v", info)
	}
	if a := d.do(t, "GET", "/api/v1/gateway/routes", d.viewer, nil); a.status != 403 {
		t.Errorf("a viewer reads the routes: %d", a.status)
	}
	var page httpx.Page[gateway.Route]
	if err := json.Unmarshal([]byte(d.do(t, "GET", "/api/v1/gateway/routes", d.admin, nil).body), &page); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, r := range page.Items {
		found = found || r.Method == "GET" && r.Path == "/api/v1/things/{id}" && r.Module == "things" && r.Permission == "thing:read" && r.OperationID == "thing-get"
	}
	if !found {
		t.Errorf("got %+v", page.Items)
	}
	for range 3 {
		d.do(t, "GET", "/api/v1/things/"+uuid.NewString(), d.admin, nil)
		d.do(t, "GET", "/"+uuid.NewString(), "", nil)
	}
	text := d.do(t, "GET", "/metrics", "", nil).body
	for _, want := range []string{
		`http_request_duration_seconds_count{endpoint="/api/v1/things/{id}",method="GET",service="things",status_code="200"} 3`,
		`http_request_duration_seconds_count{endpoint="unmatched",method="GET",service="gateway",status_code="404"} 3`,
		`errors_total{error_code="route.not_found",service="gateway",type="client"} 3`,
		`errors_total{error_code="auth.forbidden",service="gateway",type="client"} 1`,
		`active_connections{service="gateway",type="http"} `,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing in\n%s", want, text)
		}
	}
}

func TestAccessLog(t *testing.T) {
	d := open(t, nil)
	d.do(t, "GET", "/api/v1/whoami?ticket=hidden", d.viewer, nil, "Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	d.do(t, "GET", "/health", "", nil)
	var line map[string]any
	for text := range strings.Lines(d.log.String()) {
		var l map[string]any
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		if l["msg"] == "request" && l["path"] == "/api/v1/whoami" {
			line = l
		}
		if l["path"] == "/health" && l["level"] != "DEBUG" {
			t.Errorf("the health check is logged at %v", l["level"])
		}
	}
	for key, want := range map[string]any{"method": "GET", "route": "/api/v1/whoami", "service": "things", "status": 422.0, "remote": "127.0.0.1",
		"level": "INFO", "code": "request.invalid"} {
		if line[key] != want {
			t.Errorf("%s is %v, want %v", key, line[key], want)
		}
	}
	if line["user_id"] == nil || line["tenant_id"] == nil || line["duration"] == nil || line["request_id"] == nil {
		t.Errorf("got %v", line)
	}
	if strings.Contains(d.log.String(), "hidden") {
		t.Error("the query is in the log")
	}
}

func TestDocumentation(t *testing.T) {
	d := open(t, nil)
	spec := d.do(t, "GET", "/api/v1/openapi.json", "", nil)
	var doc struct {
		OpenAPI    string                    `json:"openapi"`
		Paths      map[string]map[string]any `json:"paths"`
		Components struct {
			Schemes map[string]any `json:"securitySchemes"`
			Schemas map[string]any `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal([]byte(spec.body), &doc); err != nil {
		t.Fatal(err)
	}
	for _, s := range d.Surfaces() {
		for _, r := range s.Routes() {
			if doc.Paths[r.Path][strings.ToLower(r.Method)] == nil {
				t.Errorf("%s %s is missing", r.Method, r.Path)
			}
		}
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") || doc.Components.Schemes["bearer"] == nil || doc.Components.Schemes["api_key"] == nil {
		t.Errorf("version %s, schemes %v", doc.OpenAPI, doc.Components.Schemes)
	}
	for _, ref := range strings.Split(spec.body, `"$ref":"#/components/schemas/`)[1:] {
		name, _, _ := strings.Cut(ref, `"`)
		if doc.Components.Schemas[name] == nil {
			t.Errorf("the schema %s is referred to, but missing", name)
		}
	}
	if a := d.do(t, "GET", "/api/v1/openapi.json", "", nil, "If-None-Match", spec.header.Get("ETag")); a.status != 304 {
		t.Errorf("asked again: %d", a.status)
	}
	var fromYAML map[string]any
	if err := yaml.Unmarshal([]byte(d.do(t, "GET", "/api/v1/openapi.yaml", "", nil).body), &fromYAML); err != nil || fromYAML["openapi"] != doc.OpenAPI {
		t.Errorf("YAML: %v %v", err, fromYAML["openapi"])
	}

	// Everything that the page loads is served here.
	page := d.do(t, "GET", "/docs", "", nil)
	if page.status != 200 || !strings.Contains(page.header.Get("Content-Security-Policy"), "script-src 'self'") {
		t.Fatalf("got %d %v", page.status, page.header)
	}
	loaded := 0
	for _, attr := range []string{`src="`, `href="`} {
		for _, part := range strings.Split(page.body, attr)[1:] {
			path, _, _ := strings.Cut(part, `"`)
			if a := d.do(t, "GET", path, "", nil); a.status != 200 || a.body == "" || strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
				t.Errorf("%s: %d %s", path, a.status, a.header.Get("Content-Type"))
			}
			loaded++
		}
	}
	if loaded < 5 {
		t.Errorf("only %d files", loaded)
	}
	plain := d.do(t, "GET", "/docs/swagger-ui-bundle.js", "", nil, "Accept-Encoding", "gzip;q=0")
	packed := d.do(t, "GET", "/docs/swagger-ui-bundle.js", "", nil, "Accept-Encoding", "br, gzip")
	if plain.header.Get("Content-Encoding") != "" || !strings.Contains(plain.body, "SwaggerUIBundle") || packed.header.Get("Content-Encoding") != "gzip" ||
		len(packed.body) >= len(plain.body) || plain.header.Get("ETag") == packed.header.Get("ETag") {
		t.Errorf("%d bytes plain %v, %d packed %v", len(plain.body), plain.header, len(packed.body), packed.header)
	}
	for _, path := range []string{"/api/v1/openapi.json", "/api/v1/openapi.yaml", "/docs/errors"} {
		packed := d.do(t, "GET", path, "", nil, "Accept-Encoding", "gzip")
		zr, err := gzip.NewReader(strings.NewReader(packed.body))
		if err != nil || packed.header.Get("Content-Encoding") != "gzip" || packed.header.Get("Vary") != "Accept-Encoding" {
			t.Fatalf("%s: %v %v", path, packed.header, err)
		}
		text, err := io.ReadAll(zr)
		if plain := d.do(t, "GET", path, "", nil, "Accept-Encoding", "identity"); err != nil || string(text) != plain.body || len(packed.body)*2 > len(plain.body) {
			t.Errorf("%s: %d bytes packed, %d plain, %v", path, len(packed.body), len(plain.body), err)
		}
	}
	if strings.Count(spec.body, `"Quote it when`) > 1 {
		t.Error("the document describes problems more than once")
	}
	if a := d.do(t, "GET", "/docs/index.html", "", nil); a.status != 404 {
		t.Errorf("a file that is not there: %d", a.status)
	}

	// What the type of a problem points to is there.
	p := d.do(t, "GET", "/nothing", "", nil).problem(t)
	path, anchor, _ := strings.Cut(p.Type, "#")
	if a := d.do(t, "GET", path, "", nil); a.status != 200 || !strings.Contains(a.body, `id="`+anchor+`"`) {
		t.Errorf("%s: %d %s", p.Type, a.status, a.body)
	}
}

func TestRoutesAreDeclaredAndDocumented(t *testing.T) {
	for _, err := range gatewaytest.CheckRoutes(open(t, nil).Surfaces()) {
		t.Error(err)
	}
}

// stealth serves a route that it does not declare, and declares one that it does not document.
type stealth struct{ *things }

func (s stealth) Name() string { return "stealth" }
func (s stealth) Routes() []httpx.Route {
	return append(s.kit.Routes()[1:], httpx.Route{OperationID: "hidden", Method: "GET", Path: "/api/v1/hidden"})
}

func TestCheckRoutesFindsMistakes(t *testing.T) {
	var all strings.Builder
	for _, err := range gatewaytest.CheckRoutes([]gatewaymodule.Surface{newThings(), stealth{newThings()}}) {
		all.WriteString(err.Error() + "\n")
	}
	for _, want := range []string{
		"stealth: the router serves GET /api/v1/things/{id}, which is declared nowhere",
		"stealth: GET /api/v1/things/{id} is documented, but not served",
		"stealth: GET /api/v1/hidden is not documented",
		"stealth: GET /api/v1/hidden declares no permission",
		"stealth: GET /api/v1/things is claimed by things too",
		"the operation id thing-list of",
	} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("%q is missing in\n%s", want, all.String())
		}
	}
}

func TestNewRefuses(t *testing.T) {
	d := open(t, nil)
	good := gatewaymodule.Deps{Auth: d.auth, Gatherer: d.reg, Log: nopLog()}
	for name, change := range map[string]func(*gatewaymodule.Config, *gatewaymodule.Deps){
		"one route twice": func(_ *gatewaymodule.Config, deps *gatewaymodule.Deps) {
			deps.Surfaces = []gatewaymodule.Surface{newThings(), newThings()}
		},
		"a route without a right": func(_ *gatewaymodule.Config, deps *gatewaymodule.Deps) {
			deps.Surfaces = []gatewaymodule.Surface{stealth{newThings()}}
		},
		"no authenticator": func(_ *gatewaymodule.Config, deps *gatewaymodule.Deps) { deps.Auth = nil },
		"a bad address":    func(cfg *gatewaymodule.Config, _ *gatewaymodule.Deps) { cfg.Listen = "8080" },
	} {
		cfg, deps := gatewaymodule.Default(), good
		change(&cfg, &deps)
		if _, err := gatewaymodule.New(cfg, deps); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	cfg := gatewaymodule.Default()
	cfg.Listen = d.Addr().String()
	m, err := gatewaymodule.New(cfg, good)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "http.listen") {
		t.Errorf("listening on a taken address: %v", err)
	}
}

// TestKitWithoutGateway shows that a module's handler, reached without the gateway, lets nobody in.
func TestKitWithoutGateway(t *testing.T) {
	w := httptest.NewRecorder()
	newThings().Handler().ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/whoami", nil))
	if w.Code != 401 {
		t.Errorf("answered %d", w.Code)
	}
	if _, ok := identity.From(t.Context()); ok {
		t.Error("a principal out of nowhere")
	}
}
