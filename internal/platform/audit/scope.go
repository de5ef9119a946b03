package audit

import (
	"context"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus/event"
)

// Bounds of what is kept of a text.
const (
	maxText    = 256
	maxDetails = 32
)

type scopeKey struct{}

// scope is the record of a call that is being carried out.
type scope struct {
	mu     sync.Mutex // guards record: a handler may work in several goroutines
	record event.Audit
}

func scopeOf(ctx context.Context) *scope {
	s, _ := ctx.Value(scopeKey{}).(*scope)
	return s
}

func change(ctx context.Context, f func(*event.Audit)) {
	if s := scopeOf(ctx); s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		f(&s.record)
	}
}

// Recorded tells whether the call that ctx belongs to leaves a record anyway.
func Recorded(ctx context.Context) bool { return scopeOf(ctx) != nil }

// Target says what the call is about, where the route cannot tell, such as what it made. It does nothing where no record is being made.
func Target(ctx context.Context, kind, id string) {
	change(ctx, func(r *event.Audit) { r.TargetKind, r.TargetID = clean(kind), clean(id) })
}

// Made says what the call made, where the record names no target yet.
func Made(ctx context.Context, id string) {
	change(ctx, func(r *event.Audit) {
		if r.TargetID == "" {
			r.TargetID = clean(id)
		}
	})
}

// Actor says who calls, where the request does not prove it, such as at a login. tenant is whose auditors shall see the record.
func Actor(ctx context.Context, user uuid.UUID, username string, tenant uuid.UUID) {
	change(ctx, func(r *event.Audit) {
		r.UserID, r.Username, r.TenantID, r.HomeTenantID = user, clean(username), tenant, tenant
	})
}

// Detail adds a fact to the record. It must not be a secret.
func Detail(ctx context.Context, key, value string) {
	change(ctx, func(r *event.Audit) { detail(r, key, value) })
}

func detail(r *event.Audit, key, value string) {
	if r.Details == nil {
		r.Details = map[string]string{}
	}
	if len(r.Details) < maxDetails {
		r.Details[clean(key)] = clean(value)
	}
}

// Clean makes a record safe to keep: bounded, valid UTF-8, no control characters, and of a time that PostgreSQL keeps as it is.
func Clean(r event.Audit) event.Audit {
	r.Time = r.Time.UTC().Truncate(time.Microsecond)
	for _, s := range []*string{&r.Module, &r.Node, &r.Action, &r.Permission, &r.Method, &r.TargetKind, &r.TargetID, &r.Username, &r.Address,
		&r.UserAgent, &r.Result, &r.Code, &r.RequestID, &r.TraceID} {
		*s = clean(*s)
	}
	given := r.Details
	r.Details = nil
	for key, value := range given {
		detail(&r, key, value)
	}
	return r
}

func clean(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	if utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0 {
		return s
	}
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return -1
		}
		return c
	}, strings.ToValidUTF8(s, ""))
}
