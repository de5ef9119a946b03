package audit

import (
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus/event"
)

// Bounds of the refusals that get a record each. Beyond them they are counted.
const (
	window       = time.Minute
	perCaller    = 30   // of one address or user in a window
	perModule    = 600  // of all together
	maxCallers   = 4096 // that are told apart
	maxSummaries = 64   // counts that are recorded for each window; the rest become one
)

// ActionDropped is the action of a record that stands for refusals which got none of their own.
const ActionDropped = "audit.refusals-counted"

// limiter decides which refusals get a record.
type limiter struct {
	now func() time.Time

	mu      sync.Mutex // guards what follows
	began   time.Time
	total   int
	callers map[string]*caller
}

type caller struct {
	first   event.Audit // that was counted
	last    time.Time
	written int
	dropped int64
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{now: now, began: now(), callers: map[string]*caller{}}
}

// keyOf tells callers apart: users by their id, others by their address, IPv6 by its /64, which is what one customer usually has.
func keyOf(r event.Audit) string {
	if r.UserID != uuid.Nil && r.SessionID != uuid.Nil || r.APIKeyID != uuid.Nil {
		return r.UserID.String()
	}
	addr, err := netip.ParseAddr(r.Address)
	if err != nil || addr.Is4() {
		return r.Address
	}
	net, err := addr.Prefix(64)
	if err != nil {
		return r.Address
	}
	return net.String()
}

// of gives what is known of a caller. The limiter's lock is held.
func (l *limiter) of(r event.Audit) *caller {
	key := keyOf(r)
	c := l.callers[key]
	if c == nil {
		if len(l.callers) >= maxCallers {
			key = ""
		}
		if c = l.callers[key]; c == nil {
			c = &caller{}
			l.callers[key] = c
		}
	}
	return c
}

// allow tells whether a refusal gets a record; otherwise it is counted.
func (l *limiter) allow(r event.Audit) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.of(r)
	if c.written >= perCaller || l.total >= perModule {
		c.drop(r)
		return false
	}
	c.written++
	l.total++
	return true
}

// drop counts a refusal that was to get a record.
func (l *limiter) drop(r event.Audit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of(r).drop(r)
}

func (c *caller) drop(r event.Audit) {
	if c.dropped == 0 {
		c.first = r
	}
	c.dropped++
	c.last = r.Time
}

// over gives the counts of a window that has ended, or of the present one too, and begins the next.
func (l *limiter) over(all bool) []event.Audit {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if !all && now.Sub(l.began) < window && now.After(l.began) {
		return nil
	}
	var list []event.Audit
	var rest event.Audit
	for key, c := range l.callers {
		switch {
		case c.dropped == 0:
		case len(list) < maxSummaries && key != "":
			r := event.Audit{Action: ActionDropped, Result: event.AuditRefused, Time: c.first.Time, Address: c.first.Address, UserID: c.first.UserID,
				Username: c.first.Username, APIKeyID: c.first.APIKeyID, TenantID: c.first.TenantID, HomeTenantID: c.first.HomeTenantID, Count: c.dropped,
				Details: map[string]string{"first_action": c.first.Action, "first_code": c.first.Code, "until": c.last.UTC().Format(time.RFC3339)}}
			list = append(list, r)
		default:
			rest.Count += c.dropped
			rest.Details = map[string]string{"callers": "many"}
			if rest.Time.IsZero() || c.first.Time.Before(rest.Time) {
				rest.Time = c.first.Time
			}
		}
	}
	if rest.Count > 0 {
		rest.Action, rest.Result = ActionDropped, event.AuditRefused
		rest.Details["window"] = strconv.Itoa(int(window.Seconds())) + "s"
		list = append(list, rest)
	}
	l.began, l.total = now, 0
	clear(l.callers)
	return list
}
