package throttle

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
)

// shelf is a cache whose entries age by the test's clock.
type shelf struct {
	mu      sync.Mutex
	entries map[string]shelved
	now     time.Time
	broken  error
}

type shelved struct {
	value []byte
	ends  time.Time
}

func (s *shelf) clock() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.now }
func (s *shelf) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

func (s *shelf) Get(_ context.Context, key string) ([]byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, found := s.entries[key]
	return e.value, found && e.ends.After(s.now), s.broken
}

func (s *shelf) Set(_ context.Context, key string, value []byte, ttl time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries[key] = shelved{value, s.now.Add(ttl)}
	return s.broken
}

func (s *shelf) Increment(_ context.Context, key string, ttl time.Duration) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key]
	if !e.ends.After(s.now) {
		e = shelved{[]byte("0"), s.now.Add(ttl)}
	}
	n, err := strconv.ParseInt(string(e.value), 10, 64)
	if err != nil {
		return 0, err
	}
	e.value = []byte(strconv.FormatInt(n+1, 10))
	s.entries[key] = e
	return n + 1, s.broken
}

func (s *shelf) Delete(_ context.Context, keys ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		delete(s.entries, k)
	}
	return s.broken
}

func newLimiter() (*Limiter, *shelf) {
	s := &shelf{entries: map[string]shelved{}, now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	return New(s, DefaultRules(), s.clock), s
}

var (
	home   = netip.MustParseAddr("192.0.2.1")
	office = netip.MustParseAddr("198.51.100.7")
)

func unknown(context.Context) (bool, error)  { return false, nil }
func familiar(context.Context) (bool, error) { return true, nil }

// guess makes one wrong attempt and tells how long the limiter says to wait; 0 means that the password was looked at.
func guess(t *testing.T, l *Limiter, account string, from netip.Addr) time.Duration {
	t.Helper()
	a, err := l.Begin(t.Context(), account, from, unknown)
	if err == nil {
		if err := a.Fail(t.Context()); err != nil {
			t.Fatal(err)
		}
		return 0
	}
	if !errors.Is(err, auth.ErrThrottled) {
		t.Fatal(err)
	}
	seconds, err := strconv.Atoi(errs.From(err).Meta[httpx.MetaRetryAfter])
	if err != nil || seconds < 1 {
		t.Fatalf("Retry-After is %d, %v", seconds, err)
	}
	return time.Duration(seconds) * time.Second
}

func TestWaitsDouble(t *testing.T) {
	t.Parallel()
	l, clock := newLimiter()
	for i := range 6 {
		if wait := guess(t, l, "ada", home); wait != 0 {
			t.Fatalf("guess %d has to wait %s", i+1, wait)
		}
	}
	var waits []time.Duration
	for range 12 {
		wait := guess(t, l, "ADA", home) // the case of the name is no way around
		waits = append(waits, wait)
		clock.pass(wait)
		if again := guess(t, l, "ada", home); again != 0 {
			t.Fatalf("after the wait of %s another of %s", wait, again)
		}
	}
	want := []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900}
	for i := range want {
		if waits[i] != want[i]*time.Second {
			t.Fatalf("waits %v, want %v seconds", waits, want)
		}
	}
}

// Whoever guesses at an account from one address keeps its owner out of that address for a while and of no other.
func TestOwnerGetsInElsewhere(t *testing.T) {
	t.Parallel()
	l, clock := newLimiter()
	for range 20 {
		guess(t, l, "ada", home)
	}
	if _, err := l.Begin(t.Context(), "ada", home, familiar); !errors.Is(err, auth.ErrThrottled) {
		t.Errorf("from the guesser's address: %v", err)
	}
	a, err := l.Begin(t.Context(), "ada", office, unknown)
	if err != nil {
		t.Fatalf("from the office: %v", err)
	}
	if err := a.Succeed(t.Context()); err != nil {
		t.Fatal(err)
	}
	clock.pass(16 * time.Minute)
	if _, err := l.Begin(t.Context(), "ada", home, unknown); err != nil {
		t.Errorf("from home, later: %v", err)
	}
}

// A guesser with many addresses makes strangers wait, shortly, and not the owner where they are known.
func TestManyAddresses(t *testing.T) {
	t.Parallel()
	l, clock := newLimiter()
	guessed := 0
	for i := range 400 {
		if guess(t, l, "ada", netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})) == 0 {
			guessed++
		}
	}
	if guessed > 101 {
		t.Errorf("%d guesses were let through", guessed)
	}
	if _, err := l.Begin(t.Context(), "ada", office, unknown); !errors.Is(err, auth.ErrThrottled) {
		t.Errorf("a stranger: %v", err)
	}
	if _, err := l.Begin(t.Context(), "ada", office, familiar); err != nil {
		t.Errorf("the owner, where they are known: %v", err)
	}
	if _, err := l.Begin(t.Context(), "bob", office, unknown); err != nil {
		t.Errorf("somebody else: %v", err)
	}
	clock.pass(time.Minute)
	if _, err := l.Begin(t.Context(), "ada", netip.MustParseAddr("203.0.113.9"), unknown); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}

// One password against many accounts from one address ends soon, and the addresses of an IPv6 network count as one.
func TestSpraying(t *testing.T) {
	t.Parallel()
	l, _ := newLimiter()
	guessed := 0
	for i := range 200 {
		from := netip.MustParseAddr(fmt.Sprintf("2001:db8:1:2::%x", i+1))
		if guess(t, l, "user"+strconv.Itoa(i), from) == 0 {
			guessed++
		}
	}
	if guessed != DefaultRules().Address.Free+1 {
		t.Errorf("%d guesses were let through", guessed)
	}
	if wait := guess(t, l, "ada", netip.MustParseAddr("2001:db8:1:3::1")); wait != 0 {
		t.Errorf("the network next door has to wait %s", wait)
	}
}

// Many guesses at once are not all let through before the first is counted.
func TestBurst(t *testing.T) {
	t.Parallel()
	l, _ := newLimiter()
	results := make(chan error, 100)
	for range cap(results) {
		go func() {
			_, err := l.Begin(t.Context(), "ada", home, unknown)
			results <- err
		}()
	}
	let := 0
	for range cap(results) {
		if err := <-results; err == nil {
			let++
		} else if !errors.Is(err, auth.ErrThrottled) {
			t.Error(err)
		}
	}
	if let > DefaultRules().Pair.Free+1 {
		t.Errorf("%d of %d were let through", let, cap(results))
	}
}

func TestSuccessForgets(t *testing.T) {
	t.Parallel()
	l, _ := newLimiter()
	for range 3 {
		for range 5 {
			if wait := guess(t, l, "ada", home); wait != 0 {
				t.Fatalf("has to wait %s", wait)
			}
		}
		a, err := l.Begin(t.Context(), "ada", home, unknown)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Succeed(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBrokenCacheLetsNobodyIn(t *testing.T) {
	t.Parallel()
	l, s := newLimiter()
	s.broken = errors.New("connection refused")
	if _, err := l.Begin(t.Context(), "ada", home, familiar); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("got %v, want %v", err, auth.ErrUnavailable)
	}
}

func TestHostileNamesStayOutOfKeys(t *testing.T) {
	t.Parallel()
	l, s := newLimiter()
	for _, name := range []string{"", "a b\r\nDEL x", "\x00", "\xff\xfe", "*", "ada:192.0.2.1"} {
		guess(t, l, name, netip.Addr{})
	}
	for key := range s.entries {
		for _, c := range key {
			if c <= ' ' || c > '~' || c == '*' {
				t.Errorf("key %q holds %q", key, c)
			}
		}
	}
}
