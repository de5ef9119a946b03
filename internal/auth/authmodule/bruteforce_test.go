package authmodule_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/novacron/novacron/internal/auth"
)

// An attack from many addresses locks the account for addresses that it does not know, for a minute at most, and never its owner where they are at home.
func TestBruteForceFromEverywhere(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.start(t)
	p.addUser(p.admin().Access, "ada", "user", nil)
	guess := func(from, password string) answer {
		return p.do(call{method: "POST", path: "/auth/login", from: from, body: object{"username": "ada", "password": password}})
	}
	guess("192.0.2.200", goodPassword).want(200) // home
	tried, stopped := 0, 0
	for i := range 150 {
		a := guess(fmt.Sprintf("203.0.%d.%d", 113+i/100, 1+i%100), "a guess at it")
		switch a.status {
		case 401:
			tried++
		case 429:
			stopped++
		default:
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	if tried > 110 || stopped < 30 {
		t.Errorf("of 150 guesses from as many addresses %d were looked at", tried)
	}
	guess("192.0.2.200", goodPassword).want(200) // at home, in the midst of it
	// That has forgiven the account; the attack goes on.
	for i := range 150 {
		guess(fmt.Sprintf("203.1.%d.%d", 113+i/100, 1+i%100), "a guess at it")
	}
	a := guess("198.51.100.77", goodPassword).want(429, auth.ErrThrottled) // on a journey
	wait, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || wait < 1 || wait > 60 {
		t.Errorf("Retry-After %q: nobody may be kept out for longer than a minute", a.header.Get("Retry-After"))
	}
	s.clock.forward(time.Duration(wait) * time.Second)
	guess("198.51.100.77", goodPassword).want(200)
}

// The wait doubles with every failure, up to a quarter of an hour, and is forgotten after an hour.
func TestWaitsDouble(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.start(t)
	var waits []int
	for len(waits) < 12 {
		a := p.do(call{method: "POST", path: "/auth/login", from: "203.0.113.5", body: object{"username": "admin", "password": "a guess at it"}})
		if a.status == 401 {
			continue
		}
		wait, err := strconv.Atoi(a.want(429, auth.ErrThrottled).header.Get("Retry-After"))
		if err != nil {
			t.Fatal(err)
		}
		waits = append(waits, wait)
		s.clock.forward(time.Duration(wait)*time.Second + time.Millisecond)
		s.cache.forget("turn") // what the cache's own clock would have done
	}
	if !slices.IsSorted(waits) || waits[0] > 2 || waits[11] < 512 || waits[11] > 900 {
		t.Errorf("waits in seconds: %v", waits)
	}
}

// Whether a name exists cannot be told from how long a refusal takes. The medians of interleaved refusals are compared, generously: machines are
// shared. That exactly one password is hashed in either case is tested beside it, in TestBadLogins.
func TestRefusalsTakeTheSameTime(t *testing.T) {
	s := newSite(t)
	s.cfg.PasswordMemoryKiB, s.cfg.PasswordIterations = 19*1024, 2 // as installed
	p := s.start(t)
	var known, unknown []time.Duration
	for i := range 40 {
		for _, name := range []string{"admin", "nobody"} {
			from := fmt.Sprintf("203.0.113.%d", 1+i)
			begun := time.Now()
			p.do(call{method: "POST", path: "/auth/login", from: from, body: object{"username": name, "password": "a guess at it"}}).want(401, auth.ErrInvalidCredentials)
			if took := time.Since(begun); name == "admin" {
				known = append(known, took)
			} else {
				unknown = append(unknown, took)
			}
		}
	}
	slices.Sort(known)
	slices.Sort(unknown)
	a, b := known[len(known)/2], unknown[len(unknown)/2]
	t.Logf("median of a wrong password %s, of an unknown name %s", a, b)
	if ratio := float64(a) / float64(b); ratio < 0.6 || ratio > 1.7 {
		t.Errorf("a wrong password takes %s, an unknown name %s", a, b)
	}
}
