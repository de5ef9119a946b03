package service

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/identity"
)

// lastingCalls are connections that outlive the check of who makes them, of this process: consoles, and streams of events. What a caller may do is
// asked when a connection begins, and it can last for days.
type lastingCalls struct {
	mu   sync.Mutex // guards open
	open map[*lastingCall]struct{}
}

type lastingCall struct {
	owner identity.Principal
	end   func()
}

// add notes a call. The answer forgets it again.
func (l *lastingCalls) add(owner identity.Principal, end func()) (done func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		l.open = map[*lastingCall]struct{}{}
	}
	c := &lastingCall{owner: owner, end: end}
	l.open[c] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.open, c)
	}
}

// count tells how many there are, and how many of them are a user's.
func (l *lastingCalls) count(user uuid.UUID) (all, own int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		if c.owner.UserID == user {
			own++
		}
	}
	return len(l.open), own
}

// end ends the calls of those who meet the condition, and tells how many.
func (l *lastingCalls) end(condition func(identity.Principal) bool) int {
	l.mu.Lock()
	var ending []*lastingCall
	for c := range l.open {
		if condition(c.owner) {
			ending = append(ending, c)
		}
	}
	l.mu.Unlock()
	for _, c := range ending {
		c.end()
	}
	return len(ending)
}

// WatchRevocations closes consoles and streams of events, and takes back tickets, of callers whose session ended or whose rights may have changed. Whoever may still
// connect does so again. It goes on until the subscription is closed.
func (s *Service) WatchRevocations(b bus.Bus) (bus.Subscription, error) {
	end := func(ctx context.Context, condition func(identity.Principal) bool) {
		s.consoles.takeBack(condition)
		if n := s.open.end(condition) + s.readers.end(condition); n > 0 {
			s.log.InfoContext(ctx, "consoles and streams closed, because the rights of who opened them have changed", "connections", n)
		}
	}
	everybody := func(identity.Principal) bool { return true }
	return b.Subscribe(bus.SubjectAuthEvents, bus.SubscribeOptions{
		OnGap: func(ctx context.Context, _ uint64) { end(ctx, everybody) }, // what was lost may have been about anybody
	}, func(ctx context.Context, m bus.Message) {
		var e event.Auth
		if err := json.Unmarshal(m.Data, &e); err != nil {
			end(ctx, everybody)
			return
		}
		end(ctx, func(p identity.Principal) bool { return concerns(e, p) })
	})
}

// concerns tells whether a change may take something from a caller.
func concerns(e event.Auth, p identity.Principal) bool {
	switch e.Type {
	case event.AuthUserCreated, event.AuthTenantCreated, event.AuthRoleCreated, event.AuthKeysRotated, event.AuthBindingCreated, event.AuthAPIKeyCreated:
		return false
	}
	switch {
	case e.SessionID != uuid.Nil:
		return e.SessionID == p.SessionID
	case e.APIKeyID != uuid.Nil:
		return e.APIKeyID == p.APIKeyID
	case e.UserID != uuid.Nil:
		return e.UserID == p.UserID
	case e.PrincipalID != uuid.Nil:
		return e.PrincipalID == p.UserID || e.PrincipalID == p.APIKeyID
	default: // a tenant, or a role in one; a change without a tenant is of the whole installation
		return e.TenantID == uuid.Nil || e.TenantID == p.TenantID || e.TenantID == p.HomeID || p.Scope == identity.ScopePlatform
	}
}
