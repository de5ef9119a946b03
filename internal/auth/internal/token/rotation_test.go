package token

import (
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
)

var plan = Plan{PublishDelay: 10 * time.Minute, TokenLife: 15 * time.Minute, Every: 30 * 24 * time.Hour}

// clock is one that a test sets.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.at.Store(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time       { return time.Unix(0, c.at.Load()).UTC() }
func (c *clock) pass(d time.Duration) { c.at.Add(int64(d)) }

func states(r *Ring) (list []string) {
	for _, k := range r.Keys() {
		list = append(list, k.State)
	}
	return list
}

func wantStates(t *testing.T, r *Ring, want ...string) {
	t.Helper()
	got := states(r)
	same := len(got) == len(want)
	for i := range min(len(got), len(want)) {
		same = same && got[i] == want[i]
	}
	if !same {
		t.Fatalf("keys are %v, want %v", got, want)
	}
}

// A key is shown before it signs, and good for as long as a token that it signed can live. Nobody is refused on the way.
func TestRotation(t *testing.T) {
	t.Parallel()
	c := newClock()
	dir := filepath.Join(t.TempDir(), "keys")
	open := func() *Ring {
		r := NewRing(dir, plan, c.now, func(err error) { t.Error(err) })
		if err := r.Open(); err != nil {
			t.Fatal(err)
		}
		return r
	}
	a := open()
	b := open() // another process
	codecA, codecB := NewCodec(a, "novacron", "api", c.now), NewCodec(b, "novacron", "api", c.now)
	sign := func() string {
		text, err := codecA.Sign(Claims{UserID: uuid.New(), SessionID: uuid.New(), TenantID: uuid.New(), Role: "user", ExpiresAt: c.now().Add(plan.TokenLife)})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	good := func(text string) {
		t.Helper()
		for _, codec := range []*Codec{codecA, codecB} {
			if _, err := codec.Verify(text); err != nil {
				t.Errorf("refused: %v", err)
			}
		}
	}
	wantStates(t, a, KeySigning)
	first := a.signingKey().id
	early := sign()
	c.pass(time.Minute)
	if err := a.Rotate(false); err != nil {
		t.Fatal(err)
	}
	wantStates(t, a, KeyNext, KeySigning)
	if a.signingKey().id != first || len(a.JWKS().Keys) != 2 {
		t.Error("the next key signs before it was shown for long enough, or is not shown")
	}
	if err := b.Rotate(false); err != nil { // asked twice, also elsewhere, there is one next key
		t.Fatal(err)
	}
	wantStates(t, b, KeyNext, KeySigning)
	good(sign())
	c.pass(plan.PublishDelay)
	wantStates(t, a, KeySigning, KeyRetiring)
	if a.signingKey().id == first {
		t.Error("the next key does not sign when its time has come")
	}
	good(sign())
	c.pass(plan.TokenLife - plan.PublishDelay - 2*time.Minute)
	good(early)
	if changed, err := a.Tend(); changed || err != nil {
		t.Errorf("a key that may still be named was removed: %v", err)
	}
	last := sign()
	c.pass(plan.TokenLife + spare)
	if changed, err := a.Tend(); !changed || err != nil {
		t.Errorf("the old key stays: %v", err)
	}
	wantStates(t, a, KeySigning)
	if _, err := codecA.Verify(last); err == nil {
		t.Error("an expired token is accepted")
	}
	if lost, err := b.Reload(); !lost || err != nil {
		t.Errorf("the other process does not see that a key is gone: %v, %v", lost, err)
	}

	// Unasked, when the key is old.
	c.pass(plan.Every)
	if changed, err := b.Tend(); !changed || err != nil {
		t.Errorf("no new key: %v", err)
	}
	wantStates(t, b, KeyNext, KeySigning)
	if changed, err := b.Tend(); changed || err != nil {
		t.Errorf("one more: %v", err)
	}

	// At once: whatever was signed before is refused.
	text := sign()
	if err := a.Rotate(true); err != nil {
		t.Fatal(err)
	}
	wantStates(t, a, KeySigning)
	if _, err := codecA.Verify(text); err == nil {
		t.Error("a token of a key that was withdrawn is accepted")
	}
	if lost, err := b.Reload(); !lost || err != nil {
		t.Errorf("the other process does not see it: %v, %v", lost, err)
	}
	if _, err := codecB.Verify(text); err == nil {
		t.Error("the other process accepts a token of a key that was withdrawn")
	}
	good(sign())
}

// Keys change while tokens are signed and checked: no good token is refused.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	c := newClock()
	ring := NewRing(filepath.Join(t.TempDir(), "keys"), plan, c.now, func(err error) { t.Error(err) })
	if err := ring.Open(); err != nil {
		t.Fatal(err)
	}
	codec := NewCodec(ring, "novacron", "api", c.now)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var checked atomic.Int64
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				began := c.now()
				text, err := codec.Sign(Claims{UserID: uuid.New(), SessionID: uuid.New(), TenantID: uuid.New(), ExpiresAt: began.Add(plan.TokenLife)})
				if err == nil {
					_, err = codec.Verify(text)
				}
				if c.now().Sub(began) >= plan.TokenLife { // this goroutine had to wait for so long that the token is too old
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				checked.Add(1)
			}
		})
	}
	for range 8 {
		if err := ring.Rotate(false); err != nil {
			t.Error(err)
		}
		c.pass(plan.PublishDelay / 2)
		if _, err := ring.Tend(); err != nil {
			t.Error(err)
		}
		c.pass(plan.PublishDelay)
	}
	close(stop)
	wg.Wait()
	if checked.Load() == 0 {
		t.Error("nothing was checked")
	}
}
