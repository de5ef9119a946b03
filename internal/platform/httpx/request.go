package httpx

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/danielgtaylor/huma/v2"
)

// requestInfo is the context of a request, and what it knows of it: so it takes one piece of memory and not three.
type requestInfo struct {
	context.Context
	id   string
	path string
	code atomic.Pointer[string] // of the problem that it was answered with
}

type requestKey struct{}

// Value implements context.Context.
func (r *requestInfo) Value(key any) any {
	if _, ok := key.(requestKey); ok {
		return r
	}
	return r.Context.Value(key)
}

// WithRequest puts the request's id and path into the context. The gateway does it, before anything else runs.
func WithRequest(ctx context.Context, id, path string) context.Context {
	return &requestInfo{Context: ctx, id: id, path: path}
}

// RequestID gives the id of the request that ctx belongs to, or "".
func RequestID(ctx context.Context) string {
	if info, ok := ctx.Value(requestKey{}).(*requestInfo); ok {
		return info.id
	}
	return ""
}

// InstancePath gives the path of the request that ctx belongs to, or "".
func InstancePath(ctx context.Context) string {
	if info, ok := ctx.Value(requestKey{}).(*requestInfo); ok {
		return info.path
	}
	return ""
}

// ProblemCode gives the code of the problem that the request which ctx belongs to was answered with, or "". It is for logs and metrics
// of the edge.
func ProblemCode(ctx context.Context) string {
	if info, ok := ctx.Value(requestKey{}).(*requestInfo); ok {
		if code := info.code.Load(); code != nil {
			return *code
		}
	}
	return ""
}

func noteProblem(ctx context.Context, code string) {
	if info, ok := ctx.Value(requestKey{}).(*requestInfo); ok {
		info.code.Store(&code)
	}
}

// instanceOf gives the path as the client asked for it; the edge may have changed the request's own.
func instanceOf(r *http.Request) string {
	if path := InstancePath(r.Context()); path != "" {
		return path
	}
	return r.URL.Path
}

const nulMessage = "must not hold the character U+0000"

var errNul = errors.New(nulMessage)

// jsonFormat is strict JSON: one value, nothing behind it, and no NUL in any string, because PostgreSQL's text cannot hold it.
var jsonFormat = huma.Format{
	Marshal: func(w io.Writer, v any) error {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(true) // so that an answer shown by a browser by mistake stays inert
		return enc.Encode(v)
	},
	Unmarshal: func(data []byte, v any) error {
		if err := json.Unmarshal(data, v); err != nil {
			return err
		}
		if parsed, ok := v.(*any); ok && strings.Contains(string(data), `\u0000`) && holdsNul(*parsed) {
			return errNul
		}
		return nil
	},
}

func holdsNul(v any) bool {
	switch v := v.(type) {
	case string:
		return strings.ContainsRune(v, 0)
	case []any:
		for _, item := range v {
			if holdsNul(item) {
				return true
			}
		}
	case map[string]any:
		for key, item := range v {
			if strings.ContainsRune(key, 0) || holdsNul(item) {
				return true
			}
		}
	}
	return false
}

// HeaderTenant names the tenant that a caller wants to act in, by its id.
const HeaderTenant = "X-Tenant-Id" // in the canonical form of net/http

// BearerToken gives the token of an Authorization header; ok is false where there is no bearer token.
func BearerToken(r *http.Request) (token string, ok bool) {
	scheme, token, found := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(token), found && strings.EqualFold(scheme, "Bearer")
}
