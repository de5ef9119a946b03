package password

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// cheap costs next to nothing, so that tests of behaviour are quick.
var cheap = Params{MemoryKiB: 64, Iterations: 1, Parallelism: 1}

func newHasher(t testing.TB, p Params, concurrency, queue int) *Hasher {
	t.Helper()
	h, err := NewHasher(p, concurrency, queue)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestHashAndVerify(t *testing.T) {
	t.Parallel()
	h := newHasher(t, DefaultParams(), 1, 0)
	hash, err := h.Hash(t.Context(), "correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hash is %s", hash)
	}
	again, err := h.Hash(t.Context(), "correct horse battery")
	if err != nil || again == hash {
		t.Errorf("the same password has the same hash twice (%v): no salt", err)
	}
	for plain, want := range map[string]bool{"correct horse battery": true, "correct horse batterx": false, "": false} {
		match, outdated, err := h.Verify(t.Context(), plain, hash)
		if err != nil || match != want || outdated {
			t.Errorf("%q: match %v outdated %v error %v, want match %v", plain, match, outdated, err, want)
		}
	}
}

// A hash with other parameters than today's is checked with its own.
func TestVerifyForeignParameters(t *testing.T) {
	t.Parallel()
	d := digest{params: Params{MemoryKiB: 256, Iterations: 2, Parallelism: 2}, salt: []byte("somesalt")}
	d.key = d.params.key("password", d.salt, 24)
	match, outdated, err := newHasher(t, cheap, 1, 0).Verify(t.Context(), "password", d.String())
	if err != nil || !match || !outdated {
		t.Errorf("match %v outdated %v error %v", match, outdated, err)
	}
}

func TestNobodysHashNeverMatches(t *testing.T) {
	t.Parallel()
	h := newHasher(t, cheap, 1, 0)
	for _, plain := range []string{"", "x", strings.Repeat("a", 300)} {
		if match, _, err := h.Verify(t.Context(), plain, ""); match || err != nil {
			t.Errorf("%q matches nobody's hash: %v %v", plain, match, err)
		}
	}
}

func TestBrokenHashes(t *testing.T) {
	t.Parallel()
	h := newHasher(t, cheap, 1, 0)
	for _, hash := range []string{
		"x", "$", "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ", "$argon2i$v=19$m=64,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=16$m=64,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=64,t=1,p=0$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=64,t=4294967295,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$AAAA", "$argon2id$v=19$m=64,t=1,p=1 $c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=064,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
	} {
		if match, _, err := h.Verify(t.Context(), "x", hash); err == nil || match {
			t.Errorf("%s was read", hash)
		}
	}
}

func TestConcurrencyIsBounded(t *testing.T) {
	t.Parallel()
	h := newHasher(t, cheap, 1, 1)
	h.slots <- struct{}{} // a hash that takes for ever
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error, 1)
	go func() {
		_, err := h.Hash(ctx, "first in the queue")
		waiting <- err
	}()
	for h.waiting.Load() == 0 { // it will be; the test's own deadline is the end of patience
		if t.Context().Err() != nil {
			t.Fatal("nobody waits")
		}
	}
	if _, err := h.Hash(t.Context(), "one too many"); !errors.Is(err, ErrBusy) {
		t.Errorf("one too many: %v, want %v", err, ErrBusy)
	}
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("who gave up: %v", err)
	}
	<-h.slots
	if _, err := h.Hash(t.Context(), "all is well again"); err != nil {
		t.Error(err)
	}
}

func TestComplaint(t *testing.T) {
	t.Parallel()
	for plain, good := range map[string]bool{
		"correct horse battery": true, "äöüßéèêàâçñø": true, strings.Repeat("abcde", 51) + "f": true,
		"": false, "short": false, "elevenchars": false, "aaaaaaaaaaaaaaaa": false, "ada.lovelace": false, "Ada.Lovelace": false,
		"ada@example.org": false, strings.Repeat("abcde", 52): false, "correct horse\x00battery": false, "correct horse \xff battery": false,
	} {
		if got := Complaint(plain, "ada.lovelace", "ada@example.org"); (got == "") != good {
			t.Errorf("%q: complaint %q, want none: %v", plain, got, good)
		}
	}
	for range 100 {
		if p := Generate(); Complaint(p, "admin", "") != "" || len(p) != 24 {
			t.Errorf("generated %q", p)
		}
	}
}

func TestParamsValidate(t *testing.T) {
	t.Parallel()
	if err := DefaultParams().Validate(); err != nil {
		t.Error(err)
	}
	for _, p := range []Params{{}, {64, 0, 1}, {64, 1, 0}, {7, 1, 1}, {16, 1, 3}, {maxMemoryKiB + 1, 1, 1}, {64, 65, 1}, {64 * 1024, 1, 65}} {
		if p.Validate() == nil {
			t.Errorf("%+v passes", p)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=-1,t=1,p=1$$")
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := parse(text); err == nil && (d.String() != text || d.params.Validate() != nil) {
			t.Errorf("%q was read as %q", text, d)
		}
	})
}

func BenchmarkVerifyDefault(b *testing.B) {
	h := newHasher(b, DefaultParams(), 1, 0)
	for b.Loop() {
		if _, _, err := h.Verify(b.Context(), "correct horse battery", ""); err != nil {
			b.Fatal(err)
		}
	}
}
