package httpx

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/audit"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/tracing"
)

// Audit makes the API's calls leave audit records. It is called before the first request.
func (a *API) Audit(r *audit.Recorder) { a.audit = r }

// audited tells whether calls of a route are recorded, besides refusals, which always are.
func audited(op Op) bool {
	switch op.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return op.Audited
	}
	return true
}

// Action names a route in audit records by object and verb: "api-key-create" is "api-key.create".
func Action(operationID string) string {
	if i := strings.LastIndexByte(operationID, '-'); i > 0 {
		return operationID[:i] + "." + operationID[i+1:]
	}
	return operationID
}

// watch makes the records of one route.
type watch struct {
	api        *API
	action     string
	permission string
	kind       string   // of the target
	params     []string // of the path
	audited    bool
	atHead     bool // a raw route that only reads: the record is written when the answer begins, not when the stream ends
}

func (a *API) watched(op Op) *watch {
	w := &watch{api: a, action: Action(op.ID), permission: op.Permission, audited: audited(op)}
	w.kind, _, _ = strings.Cut(op.ID, "-")
	if resource, _, ok := strings.Cut(op.Permission, ":"); ok {
		w.kind = resource
	}
	for _, seg := range strings.Split(op.Path, "/") {
		if name, ok := strings.CutPrefix(seg, "{"); ok {
			w.params = append(w.params, strings.TrimSuffix(name, "}"))
		}
	}
	w.atHead = op.Method == http.MethodGet
	return w
}

// record is what is known of a call before it is carried out.
func (w *watch) record(r *http.Request) event.Audit {
	e := recordOf(r.Context(), r.Method)
	e.Action, e.Permission = w.action, w.permission
	for i, name := range w.params {
		value := r.PathValue(name)
		if i == 0 {
			e.TargetKind, e.TargetID = w.kind, value
			continue
		}
		if e.Details == nil {
			e.Details = map[string]string{}
		}
		e.Details[name] = value
	}
	if len(w.params) == 0 {
		e.TargetKind = w.kind
	}
	return e
}

// recordOf is what every record of a request has.
func recordOf(ctx context.Context, method string) event.Audit {
	client := ClientInfo(ctx)
	e := event.Audit{Method: method, UserAgent: client.UserAgent, RequestID: RequestID(ctx), TraceID: tracing.ID(ctx)}
	if client.Addr.IsValid() {
		e.Address = client.Addr.String()
	}
	if p, ok := identity.From(ctx); ok {
		e.UserID, e.Username, e.APIKeyID, e.SessionID, e.TenantID, e.HomeTenantID = p.UserID, p.Username, p.APIKeyID, p.SessionID, p.TenantID, p.HomeID
	}
	return e
}

// RecordRefusal records that a request was refused before it reached the route's module. known is who asked, if that is known.
func RecordRefusal(rec *audit.Recorder, r *http.Request, route Route, known bool, p identity.Principal, err error) {
	if rec == nil {
		return
	}
	ctx := r.Context()
	if known {
		ctx = identity.With(ctx, p)
	}
	e := recordOf(ctx, r.Method)
	e.Action, e.Permission = Action(route.OperationID), route.Permission
	if resource, _, ok := strings.Cut(route.Permission, ":"); ok {
		e.TargetKind = resource
	}
	note(rec, e, errs.From(err))
}

func note(rec *audit.Recorder, e event.Audit, err *errs.Error) {
	e.Status, e.Code = errs.HTTPStatus(err.Kind), err.Code
	if e.Result = audit.ResultOf(e.Status); e.Result != event.AuditRefused {
		return
	}
	if permission := err.Meta["permission"]; permission != "" {
		if e.Details == nil {
			e.Details = map[string]string{}
		}
		e.Details["missing_permission"] = permission
	}
	rec.Note(e)
}

// refused records a refusal by the kit.
func (w *watch) refused(r *http.Request, err error) {
	if w.api.audit != nil {
		note(w.api.audit, w.record(r), errs.From(err))
	}
}

// turnedAway records a refusal by the handler of a route whose calls are not recorded otherwise.
func (w *watch) turnedAway(r *http.Request, status int) {
	if status != http.StatusUnauthorized && status != http.StatusForbidden || w.api.audit == nil {
		return
	}
	e := w.record(r)
	e.Status, e.Code, e.Result = status, ProblemCode(r.Context()), audit.ResultOf(status)
	w.api.audit.Note(e)
}

// noting sees to it that the code of a problem is noted, also where no edge has done so.
func noting(ctx context.Context, r *http.Request) context.Context {
	if _, ok := ctx.Value(requestKey{}).(*requestInfo); ok {
		return ctx
	}
	return WithRequest(ctx, "", r.URL.Path)
}

// typed carries out a call of a typed route.
func (w *watch) typed(ctx huma.Context, next func(huma.Context)) {
	if w.api.audit == nil {
		next(ctx)
		return
	}
	r, rw := humachi.Unwrap(ctx)
	if !w.audited {
		next(ctx)
		w.turnedAway(r, ctx.Status())
		return
	}
	below, call, err := w.api.audit.Begin(noting(ctx.Context(), r), w.record(r))
	if err != nil {
		WriteError(rw, r, err)
		return
	}
	defer func() { // also when the handler panics
		status := ctx.Status()
		if status == 0 {
			status = http.StatusInternalServerError
		}
		call.End(below, status, ProblemCode(below))
	}()
	next(huma.WithContext(ctx, below))
}

// raw carries out a call of a raw route.
func (w *watch) raw(rw http.ResponseWriter, r *http.Request, h http.HandlerFunc) {
	if w.api.audit == nil {
		h(rw, r)
		return
	}
	sw := &statusWriter{ResponseWriter: rw}
	if !w.audited {
		h(sw, r)
		w.turnedAway(r, sw.status)
		return
	}
	below, call, err := w.api.audit.Begin(noting(r.Context(), r), w.record(r))
	if err != nil {
		WriteError(rw, r, err)
		return
	}
	end := func(status int) { call.End(below, status, ProblemCode(below)) }
	if w.atHead {
		sw.onStatus = end
	}
	completed := false
	defer func() {
		status := sw.status
		switch {
		case status == 0 && completed:
			status = http.StatusOK
		case !completed:
			status = http.StatusInternalServerError
		}
		end(status)
	}()
	h(sw, r.WithContext(below))
	completed = true
}

// statusWriter notes the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status   int
	onStatus func(int) // told once; may be nil
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *statusWriter) note(status int) {
	if w.status != 0 || status < http.StatusOK && status != http.StatusSwitchingProtocols {
		return
	}
	if w.status = status; w.onStatus != nil {
		w.onStatus(status)
	}
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	w.note(status)
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *statusWriter) Write(p []byte) (int, error) {
	w.note(http.StatusOK)
	return w.ResponseWriter.Write(p)
}

// FlushError is what http.ResponseController looks for.
func (w *statusWriter) FlushError() error {
	w.note(http.StatusOK)
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (w *statusWriter) Flush() { _ = w.FlushError() } // the interface has no error

// Hijack implements http.Hijacker.
func (w *statusWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.note(http.StatusSwitchingProtocols)
	}
	return c, rw, err
}

// noteInput records the names of the fields that a call gives, never their values, but of fields with the tag audit:"value".
func noteInput(ctx context.Context, in reflect.Value) {
	body := in.Elem().FieldByName("Body")
	for body.IsValid() && body.Kind() == reflect.Pointer && !body.IsNil() {
		body = body.Elem()
	}
	if !body.IsValid() || body.Kind() != reflect.Struct {
		return
	}
	var names []string
	for i := range body.NumField() {
		f, v := body.Type().Field(i), body.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "" || name == "-" || v.IsZero() {
			continue
		}
		names = append(names, name)
		if f.Tag.Get("audit") == "value" {
			audit.Detail(ctx, name, textOf(v))
		}
	}
	if len(names) > 0 {
		audit.Detail(ctx, "fields", strings.Join(names, ","))
	}
}

// textOf shows a value that is no secret.
func textOf(v reflect.Value) string {
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if !v.CanInterface() {
		return ""
	}
	return fmt.Sprint(v.Interface())
}

// noteOutput records what a call made, where its route has no target in the path: the id of the answer's body, or what its operation works on.
func noteOutput(ctx context.Context, out reflect.Value) {
	body := out.Elem()
	if body.Kind() == reflect.Struct {
		body = body.FieldByName("Body")
	}
	for body.IsValid() && (body.Kind() == reflect.Pointer || body.Kind() == reflect.Interface) && !body.IsNil() {
		body = body.Elem()
	}
	if !body.IsValid() || body.Kind() != reflect.Struct {
		return
	}
	made := body.FieldByName("TargetID")
	operation := ""
	if made.IsValid() {
		operation = idOf(body.FieldByName("ID"))
	} else {
		made = body.FieldByName("ID")
	}
	if operation != "" {
		audit.Detail(ctx, "operation_id", operation)
	}
	if id := idOf(made); id != "" {
		audit.Made(ctx, id)
	}
}

func idOf(v reflect.Value) string {
	for v.IsValid() && v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if !v.IsValid() || !v.CanInterface() || v.IsZero() {
		return ""
	}
	switch id := v.Interface().(type) {
	case uuid.UUID:
		return id.String()
	case string:
		return id
	}
	return ""
}
