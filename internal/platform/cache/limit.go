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

// Ask asks for room for one event within a limit. Key is that of Cache.Allow.
type Ask struct {
	Key   string
	Limit Limit
	Cost  int // events that it counts as; below 1 counts as 1, above the burst as the burst
}

// maxAsks is how many limits one event can be held against.
const maxAsks = 8

func checkAsks(asks []Ask) error {
	if len(asks) == 0 || len(asks) > maxAsks {
		return fmt.Errorf("an event is held against %d limits; it must be 1 to %d", len(asks), maxAsks)
	}
	for i, a := range asks {
		if err := a.Limit.check(); err != nil {
			return err
		}
		for _, b := range asks[:i] {
			if a.Key == b.Key {
				return fmt.Errorf("the limit of key %q is asked twice for one event", a.Key)
			}
		}
	}
	return nil
}

// cost is the time that the event takes up.
func (a Ask) cost() time.Duration {
	return a.Limit.interval() * time.Duration(min(max(a.Cost, 1), a.Limit.Burst))
}

// decide is the generic cell rate algorithm (ITU-T Recommendation I.371, annex A, virtual scheduling): tat is the theoretical arrival
// time, relative to now, at which the next event would be exactly on the rate. It answers the new tat.
func decide(tat time.Duration, a Ask) (newTAT time.Duration, allowed bool) {
	tat = max(tat, 0)
	if next := tat + a.cost(); next <= a.Limit.tolerance() {
		return next, true
	}
	return tat, false
}

// decision puts in words what decide found.
func decision(tat time.Duration, allowed bool, a Ask) Decision {
	room := a.Limit.tolerance() - tat
	d := Decision{Allowed: allowed, Limit: a.Limit.Burst, ResetAfter: tat, Remaining: max(int(room/a.Limit.interval()), 0)}
	if !allowed {
		d.RetryAfter = a.cost() - room
	}
	return d
}

// tightest gives the place of the decision that a client should go by: the refusal that lasts longest, or what has least left.
func tightest(decisions []Decision) int {
	best := 0
	for i, d := range decisions {
		b := decisions[best]
		switch {
		case d.Allowed != b.Allowed:
			if !d.Allowed {
				best = i
			}
		case !d.Allowed && d.RetryAfter > b.RetryAfter,
			d.Allowed && d.Remaining*b.Limit < b.Remaining*d.Limit:
			best = i
		}
	}
	return best
}
