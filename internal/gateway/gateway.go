package gateway

import (
	"time"

	"github.com/novacron/novacron/internal/platform/errs"
)

// APIVersion is the version of the REST API that unversioned paths stand for.
const APIVersion = "v1"

// Info tells what the installation is.
type Info struct {
	Name           string    `json:"name" example:"NovaCron"`
	Version        string    `json:"version" example:"0.1.0"`
	Commit         string    `json:"commit" example:"90a10fd"`
	BuiltAt        string    `json:"built_at,omitempty" doc:"When the program's commit was made, RFC 3339."`
	APIVersions    []string  `json:"api_versions" nullable:"false" doc:"Versions of this API that are served."`
	DefaultVersion string    `json:"default_api_version" example:"v1" doc:"What paths without a version stand for."`
	Modules        []string  `json:"modules" nullable:"false" doc:"The modules that this process runs."`
	Time           time.Time `json:"time" doc:"The server's clock."`
}

// Route is one row of the effective route table.
type Route struct {
	Method      string `json:"method" example:"GET"`
	Path        string `json:"path" example:"/api/v1/vms/{id}"`
	Module      string `json:"module" example:"vm"`
	Permission  string `json:"permission" example:"vm:read" doc:"What a caller needs: a permission, 'authenticated' or 'public'."`
	OperationID string `json:"operation_id" example:"vm-get"`

	Upstream     string   `json:"upstream" example:"local" doc:"'local', or the URL of the process that the module runs in."`
	AuthRequired bool     `json:"auth_required" doc:"Requests without credentials are answered with 401."`
	Permissions  []string `json:"permissions" nullable:"false" doc:"Everything a caller needs, also by configuration."`
	RateLimit    string   `json:"rate_limit,omitempty" example:"1000/minute" doc:"Of each caller, for all routes of the same rule together. Absent: only the limits that hold for all routes."`
	Cost         int      `json:"cost" doc:"What a request takes of its tenant's budget; lists cost more the more they ask for."`
	CacheSeconds int      `json:"cache_seconds" doc:"For how long an answer may be given again; 0: it is not kept."`
	TimeoutMS    int64    `json:"timeout_ms" doc:"How long an answer may take; 0: no limit."`
	Retries      int      `json:"retries" doc:"How often a request that may be repeated is sent again."`
	Deprecated   string   `json:"deprecated,omitempty" format:"date" example:"2026-12-31" doc:"Day since which clients should use something else."`
	Sunset       string   `json:"sunset,omitempty" format:"date" example:"2027-06-30" doc:"Day from which the route may be gone."`

	CircuitBreaker *CircuitBreaker `json:"circuit_breaker,omitempty" doc:"Of each process of a module that runs elsewhere."`
	MaxInFlight    int             `json:"max_in_flight,omitempty" example:"2000" doc:"How many requests a module that runs elsewhere may be answering at once, over all its routes."`
}

// CircuitBreaker is when a process of a module is left alone.
type CircuitBreaker struct {
	Failures  int   `json:"failures" example:"5" doc:"After so many failures in a row."`
	OpenForMS int64 `json:"open_for_ms" example:"5000" doc:"For so long."`
}

// Health says that the process lives.
type Health struct {
	Status string `json:"status" enum:"ok"`
}

// The states of an installation in Readiness.
const (
	StatusReady    = "ready"
	StatusNotReady = "not_ready"
	StatusStarting = "starting"
	StatusDraining = "draining"
)

// Readiness says whether the process can do its work, module by module.
type Readiness struct {
	Status  string                     `json:"status" enum:"ready,not_ready,starting,draining"`
	Modules map[string]ModuleReadiness `json:"modules" nullable:"false" doc:"Every module that this process runs."`
}

// ModuleReadiness says whether one module can do its work.
type ModuleReadiness struct {
	Ready bool   `json:"ready"`
	Error string `json:"error,omitempty" doc:"What keeps it from being ready. Causes that are not for the public are in the log."`
	// Degraded does not make the process unready: it goes on, less well.
	Degraded string `json:"degraded,omitempty" doc:"What it has to do without, although it is ready."`
}

// The errors of the gateway.
var (
	ErrAmbiguousCredentials = errs.New(errs.Malformed, "gateway.ambiguous_credentials", "the request carries more than one kind of credentials").
				WithAction("Send either one Authorization header or one X-API-Key header.")
	ErrNotBearer = errs.New(errs.Unauthenticated, "gateway.unsupported_credentials", "the Authorization header is not a bearer token").
			WithAction("Send an access token as 'Authorization: Bearer …'; POST /auth/login gives one. API keys go into X-API-Key.")
	ErrKeyAsBearer = errs.New(errs.Unauthenticated, "gateway.api_key_as_bearer", "the Authorization header holds an API key").
			WithAction("Send it in the header X-API-Key instead.")
	ErrTenantHeader = errs.New(errs.Malformed, "gateway.tenant_header", "the X-Tenant-ID header is not the id of one tenant").
			WithAction("GET /api/v1/me/tenants lists the tenants that you can act in.")
	ErrRateLimited = errs.New(errs.Throttled, "gateway.rate_limited", "too many requests").
			WithAction("Wait as long as Retry-After says. RateLimit-Remaining tells in every answer how many more are allowed at once.")
	ErrOverloaded = errs.New(errs.Unavailable, "gateway.overloaded", "more requests are being answered than the server can do in good time").
			WithAction("Wait as long as Retry-After says, then try again.")
	ErrUnknownVersion = errs.New(errs.Malformed, "gateway.unknown_version", "the version of the API that the header API-Version asks for is not served").
				WithAction("Leave the header out, or ask for a version that GET /api/v1/info lists.")
	ErrUpstreamAway = errs.New(errs.Unavailable, "gateway.upstream_unavailable", "the module that answers this runs in another process, which cannot be reached").
			WithAction("Try again in a moment. A change may have happened all the same: repeat it with the same Idempotency-Key.")
	ErrTimeout = errs.New(errs.Deadline, "gateway.timeout", "the answer took longer than this route may take").
			WithAction("A change may have happened all the same: look before you repeat it, or repeat it with the same Idempotency-Key.")
	ErrDraining = errs.New(errs.Unavailable, "gateway.draining", "this process is shutting down").WithAction("Try again in a moment.")
)

// Errors lists the package's errors for the reference.
func Errors() []*errs.Error {
	return []*errs.Error{ErrAmbiguousCredentials, ErrNotBearer, ErrKeyAsBearer, ErrTenantHeader, ErrRateLimited, ErrOverloaded, ErrUnknownVersion, ErrUpstreamAway, ErrTimeout, ErrDraining}
}
