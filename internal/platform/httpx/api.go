package httpx

import (
	"context"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"

	"github.com/novacron/novacron/internal/platform/audit"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/tracing"
)

// DefaultMaxBody is the most bytes a JSON body may have where a route says nothing else.
const DefaultMaxBody = 1 << 20

// Op declares one route.
type Op struct {
	ID         string // operation id in OpenAPI, unique in the product: "vm-create"
	Method     string
	Path       string // chi pattern, canonical form: "/api/v1/vms/{id}"
	Permission string // "<resource>:<verb>", identity.Public or identity.Authenticated; empty is a programming error
	// Owned says that the handler minds who owns what: it also serves callers who hold the permission for their own things only.
	Owned bool
	// WhilePending lets callers in who have to do something else first, such as replacing a one-time password.
	WhilePending bool
	Summary      string // one line
	Description  string
	Tag          string        // group in the docs: "vms"
	Status       int           // of success; 0 means 200, or 204 where the output has no body
	Errors       []*errs.Error // what the handler may answer beyond the kit's own
	MaxBody      int64         // bytes; 0 means DefaultMaxBody
	// Audited makes calls of a route that only reads leave an audit record, as those of all routes that change something do.
	Audited bool
}

// Route is what the gateway and the tests know of a registered route.
type Route struct {
	OperationID string `json:"operation_id"`
	Method      string `json:"method"`
	Path        string `json:"path"`
	Permission  string `json:"permission"`
	Owned       bool   `json:"owned,omitempty"`   // the permission may be held for one's own things only
	Raw         bool   `json:"raw,omitempty"`     // reads or writes bytes as they come, possibly for long
	Audited     bool   `json:"audited,omitempty"` // its calls leave audit records
	Holds       bool   `json:"holds,omitempty"`   // holds its answer back for as long as the request says with wait
	Lists       bool   `json:"lists,omitempty"`   // answers with as many objects as there are, or a page of them
	Keyed       bool   `json:"keyed,omitempty"`   // a POST that is sent again with its Idempotency-Key is carried out once, and answered as before
}

// API is the HTTP surface of one module.
type API struct {
	huma   huma.API
	mux    *chi.Mux
	routes []Route
	audit  *audit.Recorder // nil: no records are made
	keyed  bool            // the module remembers the answers to Idempotency-Keys
}

// The errors that the kit itself answers.
var (
	ErrMalformed        = errs.New(errs.Malformed, "request.malformed", "the request could not be read")
	ErrInvalid          = errs.New(errs.Invalid, "request.invalid", "the request failed validation")
	ErrTooLarge         = errs.New(errs.TooLarge, "request.too_large", "the body is larger than this route accepts")
	ErrUnsupportedMedia = errs.New(errs.UnsupportedMedia, "request.unsupported_media_type", "the content type is not one that this route accepts")
	ErrBodyTimeout      = errs.New(errs.Malformed, "request.timeout", "the body did not arrive in time").WithRetryable(true)
	ErrNotFound         = errs.New(errs.NotFound, "route.not_found", "there is no such route").WithAction("See /docs for the routes there are.")
	ErrMethodNotAllowed = errs.New(errs.MethodNotAllowed, "route.method_not_allowed", "the route does not take this method")
	ErrUnauthenticated  = errs.New(errs.Unauthenticated, "auth.unauthenticated", "credentials are missing").
				WithAction("Send an access token as 'Authorization: Bearer …', which POST /auth/login gives, or an API key as 'X-API-Key: …'.")
	ErrForbidden = errs.New(errs.Forbidden, "auth.forbidden", "a permission is missing")
	// ErrPasswordChange refuses who logged in with a one-time password.
	ErrPasswordChange = errs.New(errs.Forbidden, "auth.password_change_required", "the one-time password must be replaced first").
				WithAction("PUT /api/v1/me/password sets a new one.")
	// ErrMFAEnrolment refuses who lacks the second factor that their tenant or role asks for.
	ErrMFAEnrolment = errs.New(errs.Forbidden, "auth.mfa_enrolment_required", "a second factor must be set up first").
			WithAction("POST /api/v1/me/mfa/enrol begins; 'novacron mfa enrol' does all of it.")
	// ErrPending refuses who has something else to do first.
	ErrPending = errs.New(errs.Forbidden, "auth.pending", "something else has to be done first")
	ErrCursor  = errs.New(errs.Invalid, "request.invalid_cursor", "the cursor is not one that this list gave").
			WithField("query.cursor", "is not a cursor of this list", "")
)

// Errors lists the kit's errors for the reference.
func Errors() []*errs.Error {
	return []*errs.Error{errs.ErrInternal, audit.ErrUnavailable, ErrMalformed, ErrInvalid, ErrTooLarge, ErrUnsupportedMedia, ErrBodyTimeout, ErrNotFound,
		ErrMethodNotAllowed, ErrUnauthenticated, ErrForbidden, ErrPasswordChange, ErrMFAEnrolment, ErrPending, ErrCursor}
}

// installErrors replaces huma's error constructors, which are variables of its package, by ours. Once is enough for all APIs.
var installErrors = sync.OnceFunc(func() {
	huma.NewError = func(status int, msg string, details ...error) huma.StatusError {
		return kitProblem(nil, status, msg, details)
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, msg string, details ...error) huma.StatusError {
		return kitProblem(ctx, status, msg, details)
	}
})

// New makes the HTTP surface of the named module.
func New(module string) *API {
	installErrors()
	mux := chi.NewMux()
	mux.NotFound(func(w http.ResponseWriter, r *http.Request) { WriteError(w, r, ErrNotFound) })
	mux.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) { WriteError(w, r, ErrMethodNotAllowed) })
	cfg := huma.DefaultConfig("NovaCron "+module, "v1")
	cfg.CreateHooks = nil // no $schema links: they cost 4 µs a request and say nothing that OpenAPI does not
	cfg.OpenAPIPath, cfg.DocsPath, cfg.SchemasPath = "", "", ""
	cfg.RejectUnknownQueryParameters = true
	cfg.Transformers = []huma.Transformer{selectFields}
	cfg.Formats = map[string]huma.Format{"application/json": jsonFormat, "json": jsonFormat}
	return &API{huma: jsonOnly{humachi.New(mux, cfg), cfg}, mux: mux}
}

// jsonOnly answers with JSON whatever the client accepts, which is all there is. Huma's own choice panics on some values of Accept
// ("text/html;q=0.9;charset=x;,*/*"), which clients really send.
type jsonOnly struct {
	huma.API
	cfg huma.Config
}

// Config is what huma looks for to know whether unknown query parameters are refused.
func (a jsonOnly) Config() huma.Config { return a.cfg }

// Negotiate implements huma.API.
func (jsonOnly) Negotiate(string) (string, error) { return "application/json", nil }

// Handler serves the registered routes at their canonical paths.
func (a *API) Handler() http.Handler { return a.mux }

// Routes lists what is registered.
func (a *API) Routes() []Route {
	list := slices.Clone(a.routes)
	for i := range list {
		list[i].Audited = list[i].Audited && a.audit != nil
		list[i].Keyed = list[i].Keyed && a.keyed
	}
	return list
}

// RemembersKeys says that the module serves its routes behind idempotent.Middleware, so that those whose answer can be remembered are Keyed.
func (a *API) RemembersKeys() { a.keyed = true }

// OpenAPI gives the module's part of the OpenAPI 3.1 document as JSON.
func (a *API) OpenAPI() ([]byte, error) { return a.huma.OpenAPI().MarshalJSON() }

// Handle registers a typed route. I and O follow huma's conventions: fields tagged path, query or header, and a field Body.
func Handle[I, O any](a *API, op Op, handler func(context.Context, *I) (*O, error)) {
	refuseHidden(reflect.TypeFor[I](), op)
	declared := a.declare(op)
	route := &a.routes[len(a.routes)-1]
	route.Holds = takesWait(reflect.TypeFor[I]())
	route.Lists = lists(reflect.TypeFor[O]())
	route.Keyed = op.Method == http.MethodPost && !secret(reflect.TypeFor[O]())
	if names := itemFields(reflect.TypeFor[O]()); names != nil {
		declared.Middlewares = append(declared.Middlewares, knownFields(names))
	}
	huma.Register(a.huma, declared, func(ctx context.Context, in *I) (*O, error) {
		recorded := audit.Recorded(ctx)
		if recorded {
			noteInput(ctx, reflect.ValueOf(in))
		}
		out, err := handler(ctx, in)
		if err != nil {
			return nil, problemFor(ctx, err)
		}
		if recorded && out != nil {
			noteOutput(ctx, reflect.ValueOf(out))
		}
		return out, nil
	})
	if op.Status == http.StatusAccepted {
		declareEnded[O](a.huma.OpenAPI().Paths[op.Path], op.Method)
	}
}

// takesWait tells whether an input has the query parameter wait.
func takesWait(t reflect.Type) bool {
	f, ok := t.FieldByName("Wait")
	return ok && f.Tag.Get("query") == "wait"
}

// secret tells whether an output can forbid to store it, and so is not remembered. What a raw route answers nobody knows beforehand: none of them
// is Keyed.
func secret(t reflect.Type) bool {
	return slices.ContainsFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool {
		name := f.Tag.Get("header")
		return strings.EqualFold(name, "Cache-Control") || strings.EqualFold(name, "Set-Cookie")
	})
}

// lists tells whether an output is a list: a page, or whatever else has items.
func lists(t reflect.Type) bool {
	body, ok := t.FieldByName("Body")
	if !ok {
		return false
	}
	if body.Type.Kind() != reflect.Struct {
		return body.Type.Kind() == reflect.Slice
	}
	return slices.ContainsFunc(reflect.VisibleFields(body.Type), func(f reflect.StructField) bool {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		return name == "items" && f.Type.Kind() == reflect.Slice
	})
}

// declareEnded adds 200 to the answers of a route that answers 202, or what has ended where the client waited for it. It tells such a
// route by the field Status, with which a handler chooses.
func declareEnded[O any](path *huma.PathItem, method string) {
	if f, ok := reflect.TypeFor[O]().FieldByName("Status"); !ok || f.Type.Kind() != reflect.Int {
		return
	}
	operation := map[string]*huma.Operation{http.MethodGet: path.Get, http.MethodPost: path.Post, http.MethodPut: path.Put, http.MethodPatch: path.Patch,
		http.MethodDelete: path.Delete}[method]
	accepted := operation.Responses[strconv.Itoa(http.StatusAccepted)]
	if accepted == nil || operation.Responses[strconv.Itoa(http.StatusOK)] != nil {
		return
	}
	ended := *accepted
	ended.Description = "It has ended, well or not; only where the request said how long to wait."
	operation.Responses[strconv.Itoa(http.StatusOK)] = &ended
}

// refuseHidden panics on an input that embeds a struct whose name is not exported: huma would pass over its fields in silence.
func refuseHidden(t reflect.Type, op Op) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous && !f.IsExported() {
			panic("httpx: input of " + op.Method + " " + op.Path + " embeds " + f.Name + ", whose name is not exported, so its fields would never be read")
		}
	}
}

// RawDoc is the OpenAPI text of a raw route, which huma cannot derive.
type RawDoc struct {
	Parameters  []RawParam
	RequestType string // content type of the body; empty: none
	AnswerType  string // content type of the answer
	AnswerText  string // what the answer is
	// JSON is a value of the type of the body where the route takes JSON instead, too; nil: it does not.
	JSON any
	// Answers are further successes, by status.
	Answers map[int]string
}

// RawParam is one query or header parameter of a raw route.
type RawParam struct {
	In, Name, Description, Example string
	Required                       bool
}

// Raw registers a route that reads or writes bytes as they come. The permission is checked before h runs.
func (a *API) Raw(op Op, doc RawDoc, h http.HandlerFunc) {
	o := a.declare(op)
	route := &a.routes[len(a.routes)-1]
	route.Raw = true
	route.Holds = slices.ContainsFunc(doc.Parameters, func(p RawParam) bool { return p.In == "query" && p.Name == "wait" })
	for _, p := range doc.Parameters {
		o.Parameters = append(o.Parameters, &huma.Param{
			Name: p.Name, In: p.In, Description: p.Description, Required: p.Required, Example: p.Example,
			Schema: &huma.Schema{Type: huma.TypeString},
		})
	}
	for _, seg := range strings.Split(op.Path, "/") {
		if name, ok := strings.CutPrefix(seg, "{"); ok {
			o.Parameters = append(o.Parameters, &huma.Param{
				Name: strings.TrimSuffix(name, "}"), In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString},
			})
		}
	}
	if doc.RequestType != "" {
		o.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			doc.RequestType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
		}}
	}
	if doc.JSON != nil {
		o.RequestBody.Content["application/json"] = &huma.MediaType{Schema: huma.SchemaFromType(a.huma.OpenAPI().Components.Schemas, reflect.TypeOf(doc.JSON))}
	}
	status := op.Status
	if status == 0 {
		status = http.StatusOK
	}
	answer := &huma.Response{Description: doc.AnswerText}
	if doc.AnswerType != "" {
		answer.Content = map[string]*huma.MediaType{doc.AnswerType: {Schema: &huma.Schema{Type: huma.TypeString}}}
	}
	o.Responses = map[string]*huma.Response{strconv.Itoa(status): answer}
	for code, text := range doc.Answers {
		more := *answer
		more.Description = text
		o.Responses[strconv.Itoa(code)] = &more
	}
	problem := problemSchema(a.huma.OpenAPI().Components.Schemas)
	for _, code := range o.Errors {
		o.Responses[strconv.Itoa(code)] = &huma.Response{Description: http.StatusText(code), Content: map[string]*huma.MediaType{
			"application/problem+json": {Schema: problem},
		}}
	}
	a.huma.OpenAPI().AddOperation(&o)
	watch := a.watched(op)
	a.mux.MethodFunc(op.Method, op.Path, func(w http.ResponseWriter, r *http.Request) {
		if err := authorize(r.Context(), op); err != nil {
			WriteError(w, r, err)
			watch.refused(r, err)
			return
		}
		if err := strictQuery(r, o); err != nil {
			WriteError(w, r, err)
			return
		}
		traceRoute(r.Context(), op)
		watch.raw(w, r, h)
	})
}

// strictQuery refuses what a raw GET of the API would pass over in silence, as typed routes do. Pages for browsers take what they are linked with.
func strictQuery(r *http.Request, op huma.Operation) error {
	if r.URL.RawQuery == "" || op.Method != http.MethodGet || !strings.HasPrefix(op.Path, "/api/") {
		return nil
	}
	for name := range r.URL.Query() {
		if !slices.ContainsFunc(op.Parameters, func(p *huma.Param) bool { return p.In == "query" && p.Name == name }) {
			return ErrInvalid.WithField("query."+name, "unknown query parameter", "")
		}
	}
	return repeated(*r.URL, &op)
}

// declare checks an Op, notes its route and turns it into huma's form.
func (a *API) declare(op Op) huma.Operation {
	if op.Permission == "" || op.ID == "" || op.Summary == "" {
		panic("httpx: route " + op.Method + " " + op.Path + " lacks a permission, an id or a summary")
	}
	a.routes = append(a.routes, Route{OperationID: op.ID, Method: op.Method, Path: op.Path, Permission: op.Permission, Owned: op.Owned, Audited: audited(op)})
	if op.MaxBody == 0 {
		op.MaxBody = DefaultMaxBody
	}
	hop := huma.Operation{
		OperationID: op.ID, Method: op.Method, Path: op.Path, Summary: op.Summary, DefaultStatus: op.Status,
		MaxBodyBytes: op.MaxBody, Tags: []string{op.Tag}, Extensions: map[string]any{"x-permission": op.Permission},
		Description: describe(op), Errors: statuses(op),
	}
	if op.Owned {
		hop.Extensions["x-permission-own"] = op.Permission + ":own"
	}
	if op.Permission != identity.Public {
		hop.Security = []map[string][]string{{"bearer": {}}, {"api_key": {}}}
	}
	watch := a.watched(op)
	hop.Middlewares = huma.Middlewares{func(ctx huma.Context, next func(huma.Context)) {
		if err := authorize(ctx.Context(), op); err != nil {
			r, w := humachi.Unwrap(ctx)
			WriteError(w, r, err)
			watch.refused(r, err)
			return
		}
		if err := repeated(ctx.URL(), ctx.Operation()); err != nil {
			r, w := humachi.Unwrap(ctx)
			WriteError(w, r, err)
			return
		}
		traceRoute(ctx.Context(), op)
		watch.typed(ctx, next)
	}}
	return hop
}

// repeated refuses a parameter of a GET that is there twice and takes one value: all but the first would be passed over in silence.
func repeated(u url.URL, op *huma.Operation) error {
	if u.RawQuery == "" || op.Method != http.MethodGet {
		return nil
	}
	for name, values := range u.Query() {
		if len(values) > 1 && !slices.ContainsFunc(op.Parameters, func(p *huma.Param) bool {
			return p.In == "query" && p.Name == name && p.Schema.Type == huma.TypeArray
		}) {
			return ErrInvalid.WithField("query."+name, "is given more than once", "")
		}
	}
	return nil
}

// traceRoute names the span of a request by its route.
func traceRoute(ctx context.Context, op Op) {
	if tracing.Recorded(ctx) {
		span := tracing.Current(ctx)
		span.Name(op.Method + " " + op.Path)
		span.Set(tracing.String("http.route", op.Path))
	}
}

// describe adds the error codes of a route to its description, so that a reader of the docs sees them.
func describe(op Op) string {
	if len(op.Errors) == 0 {
		return op.Description
	}
	var b strings.Builder
	b.WriteString(op.Description)
	b.WriteString("\n\nErrors of its own:\n")
	for _, e := range op.Errors {
		b.WriteString("\n- `" + e.Code + "` (" + strconv.Itoa(errs.HTTPStatus(e.Kind)) + "): " + e.Message)
	}
	return strings.TrimSpace(b.String())
}

func statuses(op Op) []int {
	list := []int{http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusServiceUnavailable}
	if op.Permission != identity.Public {
		list = append(list, http.StatusUnauthorized, http.StatusForbidden)
	}
	if op.Method == http.MethodPost || op.Method == http.MethodPut || op.Method == http.MethodPatch {
		list = append(list, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	for _, e := range op.Errors {
		list = append(list, errs.HTTPStatus(e.Kind))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Authorize tells whether the principal in ctx holds a permission, for a door before the route's own; owned says that the route minds who owns what.
func Authorize(ctx context.Context, permission string, owned bool) error {
	return authorize(ctx, Op{Permission: permission, Owned: owned, WhilePending: true})
}

// AuthorizeCall tells whether the principal in ctx may make a call of a contract that routes do not stand before, by the rules of routes.
func AuthorizeCall(ctx context.Context, permission string, owned bool) error {
	return authorize(ctx, Op{Permission: permission, Owned: owned})
}

// authorize tells whether the principal in ctx may use a route. Handle and Raw ask it before every handler.
func authorize(ctx context.Context, op Op) error {
	if op.Permission == identity.Public {
		return nil
	}
	p, ok := identity.From(ctx)
	switch {
	case !ok:
		return ErrUnauthenticated
	case p.Pending == identity.PendingPassword && !op.WhilePending:
		return ErrPasswordChange
	case p.Pending == identity.PendingMFA && !op.WhilePending:
		return ErrMFAEnrolment
	case p.Pending != "" && !op.WhilePending:
		return ErrPending.WithMessage("%s has to be done first", p.Pending).WithMeta("pending", p.Pending)
	case p.Allows(op.Permission), op.Owned && p.AllowsOwn(op.Permission):
		return nil
	}
	return Missing(op.Permission)
}

// Missing refuses a caller who lacks the permission.
func Missing(permission string) *errs.Error {
	return ErrForbidden.WithMessage("the permission %s is missing", permission).WithMeta("permission", permission).
		WithAction("Ask an administrator of your tenant for a role that holds it.")
}

// MissingPlatform refuses a caller who lacks the permission beyond the tenant they act in.
func MissingPlatform(permission string) *errs.Error {
	return ErrForbidden.WithMessage("the permission %s on the platform is missing", permission).WithMeta("permission", permission).
		WithAction("It takes a role that reaches every tenant.")
}

// MissingOthers refuses a caller who holds the permission for their own things only, and knows of one that is somebody else's.
func MissingOthers(permission string) *errs.Error {
	return ErrForbidden.WithMessage("the permission %s is missing; you hold it for what you own only", permission).WithMeta("permission", permission).
		WithAction("Ask the owner, or an administrator of your tenant.")
}
