package throttle

import (
	"context"
	"net/netip"
	"time"
)

// keyRule slows down who sends wrong API keys. Guessing one is hopeless anyway; this keeps the database from being asked in vain.
func keyRule() Rule {
	return Rule{Free: 20, Base: time.Second, Max: time.Minute, Window: 10 * time.Minute}
}

// RefuseKeys fails with auth.ErrThrottled while the address has to wait because of wrong API keys.
func (l *Limiter) RefuseKeys(ctx context.Context, from netip.Addr) error {
	return l.refuse(ctx, keySubject(from))
}

// WrongKey counts a wrong API key.
func (l *Limiter) WrongKey(ctx context.Context, from netip.Addr) error {
	subject := keySubject(from)
	failures, err := l.counters.Increment(ctx, countKey(subject), keyRule().Window)
	if err != nil {
		return unavailable(err)
	}
	if wait := keyRule().wait(failures); wait > 0 {
		return l.hold(ctx, subject, wait)
	}
	return nil
}

func keySubject(from netip.Addr) string { return "k:" + network(from) }
