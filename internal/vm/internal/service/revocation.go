package service

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"sync"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/identity"
)

// openConsoles are the connections to consoles that are open in this process, and who opened them: what a caller may do is asked when a
// connection begins, and it can last for days.
type openConsoles struct {
	mu   sync.Mutex // guards open
	open map[*openConsole]struct{}
}

type openConsole struct {
	net.Conn
	owner identity.Principal
	list  *openConsoles
}

// Close implements io.Closer.
func (c *openConsole) Close() error {
	c.list.mu.Lock()
	delete(c.list.open, c)
	c.list.mu.Unlock()
	return c.Conn.Close()
}

func (o *openConsoles) add(conn net.Conn, owner identity.Principal) io.ReadWriteCloser {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open == nil {
		o.open = map[*openConsole]struct{}{}
	}
	c := &openConsole{Conn: conn, owner: owner, list: o}
	o.open[c] = struct{}{}
	return c
}

// end closes the connections of those who meet the condition, and tells how many.
func (o *openConsoles) end(condition func(identity.Principal) bool) int {
	o.mu.Lock()
	var ending []*openConsole
	for c := range o.open {
		if condition(c.owner) {
			ending = append(ending, c)
		}
	}
	o.mu.Unlock()
	for _, c := range ending {
		_ = c.Close() // the other side notices
	}
	return len(ending)
}

// WatchRevocations closes consoles, and takes back tickets, of callers whose session ended or whose rights may have changed. Whoever may still
// connect does so again. It goes on until the subscription is closed.
func (s *Service) WatchRevocations(b bus.Bus) (bus.Subscription, error) {
	end := func(ctx context.Context, condition func(identity.Principal) bool) {
		s.consoles.takeBack(condition)
		if n := s.open.end(condition); n > 0 {
			s.log.InfoContext(ctx, "consoles closed, because the rights of who opened them have changed", "consoles", n)
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
