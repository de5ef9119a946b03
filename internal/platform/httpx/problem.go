package httpx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"github.com/novacron/novacron/internal/platform/errs"
)

// problem is errs.Problem in the form huma writes.
type problem struct {
	errs.Problem
}

// problemType is the form that is really sent.
var problemType = reflect.TypeFor[errs.Problem]()

func (p *problem) Error() string  { return p.Code + ": " + p.Detail }
func (p *problem) GetStatus() int { return p.Status }

// ContentType makes huma answer application/problem+json.
func (p *problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders adds Retry-After where waiting can help.
func (p *problem) GetHeaders() http.Header { return retryAfter(p.Status, p.Meta) }

// MarshalJSON hides the embedding.
func (p *problem) MarshalJSON() ([]byte, error) { return json.Marshal(p.Problem) }

// Schema lets the OpenAPI document show errs.Problem, the form that is really sent.
func (p *problem) Schema(r huma.Registry) *huma.Schema { return problemSchema(r) }

// problemSchema refers to the one description of problems: hundreds of copies would be most of the document.
func problemSchema(r huma.Registry) *huma.Schema { return r.Schema(problemType, true, "Problem") }

// MetaRetryAfter is the Meta key of an error that says after how many seconds a retry makes sense.
const MetaRetryAfter = "retry_after_seconds"

// Seconds writes a time for the headers that count in seconds. It rounds up, so that whoever waits for so long is not told to wait again.
func Seconds(d time.Duration) string { return strconv.Itoa(int(math.Ceil(d.Seconds()))) }

func retryAfter(status int, meta map[string]string) http.Header {
	if status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
		return nil
	}
	after := meta[MetaRetryAfter]
	if after == "" {
		after = "5"
	}
	return http.Header{"Retry-After": {after}}
}

// WriteError answers a request with the problem document of err. Causes of internal errors go to the log.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	p := ProblemFor(r.Context(), instanceOf(r), err)
	for name, values := range retryAfter(p.Status, p.Meta) {
		w.Header()[name] = values
	}
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="novacron"`)
	}
	body, mErr := json.Marshal(p)
	if mErr != nil { // cannot happen: strings and numbers only
		body = []byte(`{"status":500,"code":"internal"}`)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // the client may be gone; there is nobody to tell
}

// ProblemFor makes the public document of err and logs what the document must not say.
func ProblemFor(ctx context.Context, instance string, err error) *errs.Problem {
	// Whoever ended the request says why; what failed because of that is no better answer.
	var why *errs.Error
	if ctx.Err() != nil && errs.From(err).Kind == errs.Internal && errors.As(context.Cause(ctx), &why) {
		err = why.Wrap(err)
	}
	p := errs.ProblemOf(err, instance, RequestID(ctx))
	noteProblem(ctx, p.Code)
	if p.Status >= http.StatusInternalServerError && !errors.Is(err, context.Canceled) {
		level := slog.LevelError
		if e := errs.From(err); e.Kind != errs.Internal {
			level = slog.LevelWarn
			if e.Unwrap() == nil { // the access log says all there is to say
				level = slog.LevelDebug
			}
		}
		slog.Log(ctx, level, "request failed", "error", err, "request_id", p.RequestID, "instance", instance, "code", p.Code)
	}
	return p
}

func problemFor(ctx context.Context, err error) *problem {
	return &problem{Problem: *ProblemFor(ctx, InstancePath(ctx), err)}
}

// secretFields are names whose values never go back to a client.
var secretFields = map[string]bool{"password": true, "new_password": true, "current_password": true, "secret": true, "token": true,
	"refresh_token": true, "access_token": true, "mfa_token": true, "code": true, "user_data": true, "vendor_data": true, "network_config": true, "password_hash": true, "private_key": true}

// kitProblem makes the problem of what huma found wrong with a request before the handler ran.
func kitProblem(ctx huma.Context, status int, msg string, details []error) huma.StatusError {
	e := kitError(status, msg, details)
	for _, d := range details {
		var detail huma.ErrorDetailer
		if !errors.As(d, &detail) {
			continue
		}
		ed := detail.ErrorDetail()
		if ed.Message == nulMessage && e.Kind == errs.Malformed {
			e = ErrInvalid.WithField("body", nulMessage, "")
			continue
		}
		e = e.WithField(ed.Location, ed.Message, publicValue(ed))
	}
	if ctx == nil {
		return &problem{Problem: *errs.ProblemOf(e, "", "")}
	}
	r, w := humachi.Unwrap(ctx)
	p := &problem{Problem: *ProblemFor(r.Context(), instanceOf(r), e)}
	for name, values := range retryAfter(p.Status, p.Meta) {
		w.Header()[name] = values
	}
	return p
}

// kitError picks the kit's error for a status that huma chose.
func kitError(status int, msg string, details []error) *errs.Error {
	switch status {
	case http.StatusBadRequest:
		return ErrMalformed
	case http.StatusUnprocessableEntity:
		return ErrInvalid
	case http.StatusRequestEntityTooLarge:
		return ErrTooLarge
	case http.StatusUnsupportedMediaType:
		return ErrUnsupportedMedia
	case http.StatusRequestTimeout:
		return ErrBodyTimeout
	case http.StatusNotAcceptable:
		return ErrUnsupportedMedia
	case http.StatusInternalServerError:
		cause := errors.Join(details...)
		var tooLarge *http.MaxBytesError
		if errors.As(cause, &tooLarge) {
			return ErrTooLarge
		}
		if msg == "cannot read request body" { // a broken upload is the client's doing
			return ErrMalformed.Wrap(cause)
		}
		return errs.ErrInternal.Wrap(fmt.Errorf("%s: %w", msg, cause))
	default:
		return errs.ErrInternal.Wrap(fmt.Errorf("status %d: %s", status, msg))
	}
}

// publicValue gives the offending value of a field where it is a scalar and no secret. A whole body is never echoed.
func publicValue(d *huma.ErrorDetail) string {
	if d.Location == "body" || d.Location == "" {
		return ""
	}
	last := d.Location[strings.LastIndexAny(d.Location, ".")+1:]
	if secretFields[last] {
		return ""
	}
	switch v := d.Value.(type) {
	case string:
		return v
	case float64, bool, int, int64:
		return fmt.Sprint(v)
	default:
		return ""
	}
}
