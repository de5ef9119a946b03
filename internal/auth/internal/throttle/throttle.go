// Package throttle slows down who guesses passwords.
//
// It counts failures for three things: an account from one address, an address, and an account from anywhere. Beyond a number that people reach by
// mistake, each further failure doubles the wait. Attempts during a wait are refused without looking at the password. A wait for an
// account from anywhere is short and spares addresses the account is known to log in from, so that nobody can keep its
// owner out. Counters live in the shared cache; where it fails, nobody is let through.
package throttle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
)

// Counters is the part of the shared cache that is needed.
type Counters interface {
	Get(ctx context.Context, key string) (value []byte, found bool, err error)
	Set(ctx context.Context, key string, value []byte, ttl time.Duration) error
	// Increment adds one and gives the sum. The time to live begins with the first increment.
	Increment(ctx context.Context, key string, ttl time.Duration) (int64, error)
	Delete(ctx context.Context, keys ...string) error
}

// Rule says how one kind of failure is counted.
type Rule struct {
	Free   int           // failures without a wait
	Base   time.Duration // the first wait; each further failure doubles it
	Max    time.Duration // the longest wait
	Window time.Duration // after which failures are forgotten
}

func (r Rule) wait(failures int64) time.Duration {
	over := failures - int64(r.Free) - 1
	if over < 0 {
		return 0
	}
	if over > 30 || r.Base<<over > r.Max {
		return r.Max
	}
	return r.Base << over
}

// Rules are the three rules.
type Rules struct {
	Pair    Rule // an account from one address
	Address Rule // an address, whatever the account
	Account Rule // an account, from anywhere but where its owner is known to be
}

// DefaultRules let a person err and a machine not get far: some 30 guesses an hour from one address.
func DefaultRules() Rules {
	return Rules{
		Pair:    Rule{Free: 5, Base: time.Second, Max: 15 * time.Minute, Window: time.Hour},
		Address: Rule{Free: 50, Base: time.Second, Max: 15 * time.Minute, Window: time.Hour},
		Account: Rule{Free: 100, Base: time.Second, Max: time.Minute, Window: time.Hour},
	}
}

// CodeRules are for the codes of a second factor. Whoever gets so far knows the password, and a guess is right with a chance of some three in a
// million: the waits are long enough that it takes a year of guessing from any number of addresses to get to one in ten.
func CodeRules() Rules {
	r := DefaultRules()
	r.Account = Rule{Free: 20, Base: time.Second, Max: 15 * time.Minute, Window: 24 * time.Hour}
	return r
}

// ResetRules are for mails with a link: some a day, so that nobody's mailbox is filled.
func ResetRules() Rules {
	r := DefaultRules()
	r.Pair = Rule{Free: 3, Base: 30 * time.Second, Max: 15 * time.Minute, Window: time.Hour}
	r.Account = Rule{Free: 5, Base: time.Minute, Max: time.Hour, Window: 24 * time.Hour}
	return r
}

// Limiter throttles attempts.
type Limiter struct {
	counters Counters
	rules    Rules
	now      func() time.Time
	name     string // of the attempts, where they are not logins
}

// New makes a Limiter.
func New(counters Counters, rules Rules, now func() time.Time) *Limiter {
	return &Limiter{counters: counters, rules: rules, now: now}
}

// Named gives a limiter that counts other attempts on accounts, such as codes, apart and by rules of their own. What an address does counts
// for all of them together.
func (l *Limiter) Named(name string, rules Rules) *Limiter {
	return &Limiter{counters: l.counters, rules: rules, now: l.now, name: name}
}

// Attempt is one try that was let through. It ends with Fail or Succeed; one that ends with neither counts against the pair.
type Attempt struct {
	l                      *Limiter
	pair, address, account string
}

// Begin lets an attempt through or fails with auth.ErrThrottled. known is asked, only where it matters, whether the account has logged in
// from this address before.
func (l *Limiter) Begin(ctx context.Context, account string, from netip.Addr, known func(context.Context) (bool, error)) (*Attempt, error) {
	account = strings.ToLower(account)
	if l.name != "" {
		account = l.name + "\xff" + account // no user name that somebody types holds this byte: it is not UTF-8
	}
	a := &Attempt{l: l, address: network(from), account: digest(account)}
	a.pair = "p:" + a.account + ":" + a.address
	a.address, a.account = "i:"+a.address, "a:"+a.account
	for _, subject := range []string{a.pair, a.address} {
		if err := l.refuse(ctx, subject); err != nil {
			return nil, err
		}
	}
	if throttled := l.refuse(ctx, a.account); throttled != nil {
		if spared, err := known(ctx); err != nil || !spared {
			return nil, throttled
		}
	}
	// Count before the password is looked at, so that many attempts at once are not all let through.
	failures, err := l.counters.Increment(ctx, countKey(a.pair), l.rules.Pair.Window)
	if err != nil {
		return nil, unavailable(err)
	}
	wait := l.rules.Pair.wait(failures)
	if wait == 0 {
		return a, nil
	}
	first, err := l.counters.Increment(ctx, turnKey(a.pair), wait)
	if err != nil {
		return nil, unavailable(err)
	}
	if first > 1 { // another attempt has taken the one turn that this wait allows
		return nil, throttled(wait)
	}
	return a, l.hold(ctx, a.pair, wait)
}

// Fail counts the attempt as a wrong guess.
func (a *Attempt) Fail(ctx context.Context) error {
	for subject, rule := range map[string]Rule{a.address: a.l.rules.Address, a.account: a.l.rules.Account} {
		failures, err := a.l.counters.Increment(ctx, countKey(subject), rule.Window)
		if err != nil {
			return unavailable(err)
		}
		if wait := rule.wait(failures); wait > 0 {
			if err := a.l.hold(ctx, subject, wait); err != nil {
				return err
			}
		}
	}
	return nil
}

// Succeed forgets what was counted against the account. The address keeps its count: whoever owns one account could
// otherwise guess at the others for ever.
func (a *Attempt) Succeed(ctx context.Context) error {
	err := a.l.counters.Delete(ctx, countKey(a.pair), turnKey(a.pair), untilKey(a.pair), countKey(a.account), untilKey(a.account))
	if err != nil {
		return unavailable(err)
	}
	return nil
}

// hold makes the subject wait.
func (l *Limiter) hold(ctx context.Context, subject string, wait time.Duration) error {
	until := strconv.FormatInt(l.now().Add(wait).UnixMilli(), 10)
	if err := l.counters.Set(ctx, untilKey(subject), []byte(until), wait); err != nil {
		return unavailable(err)
	}
	return nil
}

// refuse fails while the subject has to wait.
func (l *Limiter) refuse(ctx context.Context, subject string) error {
	value, found, err := l.counters.Get(ctx, untilKey(subject))
	if err != nil {
		return unavailable(err)
	}
	if !found {
		return nil
	}
	millis, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return unavailable(fmt.Errorf("the cache holds %.40q where a time should be: %w", value, err))
	}
	if left := time.UnixMilli(millis).Sub(l.now()); left > 0 {
		return throttled(left)
	}
	return nil
}

func throttled(wait time.Duration) *errs.Error {
	return auth.ErrThrottled.WithMeta(httpx.MetaRetryAfter, httpx.Seconds(wait))
}

func unavailable(err error) error {
	return auth.ErrUnavailable.WithMessage("failed attempts cannot be counted at this moment, so nobody is let in").
		Wrap(fmt.Errorf("count login attempts: %w", err))
}

func countKey(subject string) string { return "auth:throttle:count:" + subject }
func turnKey(subject string) string  { return "auth:throttle:turn:" + subject }
func untilKey(subject string) string { return "auth:throttle:until:" + subject }

// network names an address: an IPv6 customer has at least a /64 (RFC 6177), so single addresses of it say nothing.
func network(a netip.Addr) string {
	if !a.IsValid() {
		return "unknown"
	}
	if a.Is6() && !a.Is4In6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.Unmap().String()
}

// digest keeps hostile text out of keys, and user names, which people mistake for the password field, out of the cache.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}
