package cache

import (
	"fmt"
	"time"
)

// Limit allows Rate events in every period Per, and Burst at once. All three must be positive. At most a million events a second can be
// told apart.
type Limit struct {
	Rate  int
	Per   time.Duration
	Burst int
}

// interval is the time that one event takes up. Redis counts in microseconds; both implementations shall decide alike.
func (l Limit) interval() time.Duration {
	return max((l.Per / time.Duration(l.Rate)).Truncate(time.Microsecond), time.Microsecond)
}

// tolerance is the time that a whole burst takes up.
func (l Limit) tolerance() time.Duration { return l.interval() * time.Duration(l.Burst) }

// maxTolerance keeps sums with the time of day within the 53 bits of a Lua number's mantissa, with room to spare.
const maxTolerance = 10 * 365 * 24 * time.Hour

func (l Limit) check() error {
	if l.Rate <= 0 || l.Per <= 0 || l.Burst <= 0 {
		return fmt.Errorf("limit of %d events in %v with a burst of %d: all must be positive", l.Rate, l.Per, l.Burst)
	}
	if l.interval() > maxTolerance/time.Duration(l.Burst) {
		return fmt.Errorf("limit of %d events in %v with a burst of %d: the burst takes more than %v to refill", l.Rate, l.Per, l.Burst, maxTolerance)
	}
	return nil
}

// Decision is what a limit says to an event. Its fields are those of the RateLimit headers.
type Decision struct {
	Allowed    bool
	Limit      int           // events allowed at once after a rest: the burst
	Remaining  int           // events that would be allowed at once now
	RetryAfter time.Duration // until one more is allowed; 0 for an event that was
	ResetAfter time.Duration // until the burst is whole again
}

// decide is the generic cell rate algorithm (ITU-T Recommendation I.371, annex A, virtual scheduling): tat is the theoretical arrival
// time, relative to now, at which the next event would be exactly on the rate. It answers the new tat.
func decide(tat time.Duration, l Limit) (newTAT time.Duration, allowed bool) {
	tat = max(tat, 0)
	if next := tat + l.interval(); next <= l.tolerance() {
		return next, true
	}
	return tat, false
}

// decision puts in words what decide found.
func decision(tat time.Duration, allowed bool, l Limit) Decision {
	room := l.tolerance() - tat
	d := Decision{Allowed: allowed, Limit: l.Burst, ResetAfter: tat}
	if allowed {
		d.Remaining = int(room / l.interval())
	} else {
		d.RetryAfter = l.interval() - room
	}
	return d
}
