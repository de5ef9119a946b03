package token

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
)

// bench is a ring, a codec with a clock that the test moves, and claims.
type bench struct {
	ring   *Ring
	codec  *Codec
	clock  time.Time
	claims Claims
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{clock: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	b.ring = NewRing(filepath.Join(t.TempDir(), "keys"), plan, time.Now, func(err error) { t.Errorf("rescan: %v", err) })
	if err := b.ring.Open(); err != nil {
		t.Fatal(err)
	}
	b.codec = NewCodec(b.ring, "novacron", "api", func() time.Time { return b.clock })
	b.claims = Claims{
		UserID: uuid.New(), SessionID: uuid.New(), TenantID: uuid.New(), Role: "operator", ExpiresAt: b.clock.Add(15 * time.Minute),
	}
	return b
}

func (b *bench) sign(t testing.TB) string {
	t.Helper()
	text, err := b.codec.Sign(b.claims)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	text := b.sign(t)
	got, err := b.codec.Verify(text)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID == "" {
		t.Error("the token has no id")
	}
	got.ID = ""
	if !got.ExpiresAt.Equal(b.claims.ExpiresAt) {
		t.Errorf("expires at %v, want %v", got.ExpiresAt, b.claims.ExpiresAt)
	}
	got.ExpiresAt = b.claims.ExpiresAt
	if got != b.claims {
		t.Errorf("got %+v, want %+v", got, b.claims)
	}
	// What we sign is what another library reads with our published keys.
	if len(b.ring.JWKS().Keys) != 1 {
		t.Fatalf("the key set is %+v", b.ring.JWKS())
	}
	k := b.ring.JWKS().Keys[0]
	n, err := base64.RawURLEncoding.DecodeString(k.Modulus)
	if err != nil {
		t.Fatal(err)
	}
	pub := &rsa.PublicKey{N: bigint(t, k.Modulus), E: 65537}
	if len(n) != keyBits/8 || k.Exponent != "AQAB" {
		t.Errorf("modulus of %d bytes, exponent %q", len(n), k.Exponent)
	}
	_, err = jwt.Parse(text, func(tok *jwt.Token) (any, error) {
		if tok.Header["kid"] != k.ID {
			return nil, errors.New("another key id")
		}
		return pub, nil
	}, jwt.WithValidMethods([]string{"RS256"}), jwt.WithTimeFunc(func() time.Time { return b.clock }), jwt.WithAudience("api"))
	if err != nil {
		t.Errorf("golang-jwt does not take our token: %v", err)
	}
}

func TestClock(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	text := b.sign(t)
	begun := b.clock
	for _, c := range []struct {
		after time.Duration
		want  error
	}{
		{0, nil}, {15 * time.Minute, nil}, {15*time.Minute + Leeway - time.Second, nil},
		{15*time.Minute + Leeway + time.Second, auth.ErrTokenExpired}, {24 * time.Hour, auth.ErrTokenExpired},
		{-Leeway + time.Second, nil}, {-Leeway - 2*time.Second, auth.ErrInvalidToken},
	} {
		b.clock = begun.Add(c.after)
		if _, err := b.codec.Verify(text); !errors.Is(err, c.want) {
			t.Errorf("after %s: %v, want %v", c.after, err, c.want)
		}
	}
}

// forge signs any header and claims with the ring's own key, or with another method and key.
func (b *bench) forge(t *testing.T, method jwt.SigningMethod, key any, header, claims map[string]any) string {
	t.Helper()
	k := b.ring.signingKey()
	all := jwt.MapClaims{
		"iss": "novacron", "aud": "api", "sub": b.claims.UserID.String(), "sid": b.claims.SessionID.String(), "tid": b.claims.TenantID.String(),
		"jti": "1", "iat": b.clock.Unix(), "nbf": b.clock.Unix(), "exp": b.clock.Add(time.Minute).Unix(), "role": "admin",
	}
	for name, v := range claims {
		if v == nil {
			delete(all, name)
		} else {
			all[name] = v
		}
	}
	tok := jwt.NewWithClaims(method, all)
	tok.Header["kid"] = k.id
	maps.Copy(tok.Header, header)
	if key == nil {
		key = k.private
	}
	text, err := tok.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestForgeriesAreRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	other, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		t.Fatal(err)
	}
	ours := b.ring.signingKey()
	der, err := x509.MarshalPKIXPublicKey(&ours.private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	rs, none := jwt.SigningMethodRS256, jwt.UnsafeAllowNoneSignatureType
	type object = map[string]any

	if _, err := b.codec.Verify(b.forge(t, rs, nil, nil, nil)); err != nil {
		t.Fatalf("what the forgeries are made from is refused itself: %v", err)
	}
	good := b.sign(t)
	parts := strings.Split(good, ".")
	for name, text := range map[string]string{
		"empty":                        "",
		"words":                        "let me in please",
		"alg none":                     b.forge(t, jwt.SigningMethodNone, none, nil, nil),
		"alg None":                     b.forge(t, jwt.SigningMethodNone, none, object{"alg": "None"}, nil),
		"HS256 with the public PEM":    b.forge(t, jwt.SigningMethodHS256, publicPEM, nil, nil),
		"HS256 with the public DER":    b.forge(t, jwt.SigningMethodHS256, der, nil, nil),
		"HS256 with the modulus":       b.forge(t, jwt.SigningMethodHS256, ours.private.N.Bytes(), nil, nil),
		"HS256 that says RS256":        b.forge(t, jwt.SigningMethodHS256, publicPEM, object{"alg": "RS256"}, nil),
		"RS512 by our key":             b.forge(t, jwt.SigningMethodRS512, nil, nil, nil),
		"PS256 by our key":             b.forge(t, jwt.SigningMethodPS256, nil, nil, nil),
		"another key":                  b.forge(t, rs, other, nil, nil),
		"another key with its own jwk": b.forge(t, rs, other, object{"jwk": object{"kty": "RSA", "e": "AQAB", "n": "AQ"}}, nil),
		"unknown kid":                  b.forge(t, rs, nil, object{"kid": "nobody"}, nil),
		"kid is a path":                b.forge(t, rs, nil, object{"kid": "../../etc/passwd"}, nil),
		"no kid":                       b.forge(t, rs, nil, object{"kid": ""}, nil),
		"kid is a number":              b.forge(t, rs, nil, object{"kid": 1}, nil),
		"critical extension":           b.forge(t, rs, nil, object{"crit": []string{"b64"}, "b64": false}, nil),
		"wrong audience":               b.forge(t, rs, nil, nil, object{"aud": "other"}),
		"no audience":                  b.forge(t, rs, nil, nil, object{"aud": nil}),
		"wrong issuer":                 b.forge(t, rs, nil, nil, object{"iss": "novacron "}),
		"no expiry":                    b.forge(t, rs, nil, nil, object{"exp": nil}),
		"no not-before":                b.forge(t, rs, nil, nil, object{"nbf": nil}),
		"not yet":                      b.forge(t, rs, nil, nil, object{"nbf": b.clock.Add(time.Hour).Unix()}),
		"issued in the future":         b.forge(t, rs, nil, nil, object{"iat": b.clock.Add(time.Hour).Unix()}),
		"expired for another audience": b.forge(t, rs, nil, nil, object{"aud": "other", "exp": b.clock.Add(-time.Hour).Unix()}),
		"no subject":                   b.forge(t, rs, nil, nil, object{"sub": nil}),
		"subject is no id":             b.forge(t, rs, nil, nil, object{"sub": "admin"}),
		"nil subject":                  b.forge(t, rs, nil, nil, object{"sub": uuid.Nil.String()}),
		"no session":                   b.forge(t, rs, nil, nil, object{"sid": nil}),
		"no tenant":                    b.forge(t, rs, nil, nil, object{"tid": nil}),
		"no id":                        b.forge(t, rs, nil, nil, object{"jti": nil}),
		"too long":                     b.forge(t, rs, nil, nil, object{"pad": strings.Repeat("x", auth.MaxTokenBytes)}),
		"no signature":                 parts[0] + "." + parts[1] + ".",
		"two parts":                    parts[0] + "." + parts[1],
		"four parts":                   good + ".x",
		"JWE-like five parts":          good + ".x.y",
		"another payload":              parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"root"}`)) + "." + parts[2],
		"line break":                   parts[0] + "." + parts[1] + "." + parts[2][:10] + "\n" + parts[2][10:],
		"padding":                      good + "==",
		"trailing bits":                good[:len(good)-1] + next(good[len(good)-1]),
	} {
		if _, err := b.codec.Verify(text); !errors.Is(err, auth.ErrInvalidToken) {
			t.Errorf("%s: %v, want %v", name, err, auth.ErrInvalidToken)
		}
	}
	if _, err := b.codec.Verify(b.forge(t, rs, nil, nil, object{"exp": b.clock.Add(-time.Hour).Unix()})); !errors.Is(err, auth.ErrTokenExpired) {
		t.Errorf("expired: %v", err)
	}
}

// next gives a base64 character that differs in the last bit only: the last character of a 256-byte signature has two unused bits.
func next(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, c)^1])
}

func FuzzVerify(f *testing.F) {
	b := newBench(f)
	good := b.sign(f)
	parts := strings.Split(good, ".")
	for _, seed := range []string{good, "", ".", "..", "...", parts[0] + "..", good + ".", "e30.e30.e30", parts[0] + ".e30." + parts[2]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		claims, err := b.codec.Verify(text)
		switch {
		case err == nil && text != good:
			t.Errorf("accepted %q as %+v", text, claims)
		case err != nil && !errors.Is(err, auth.ErrInvalidToken) && !errors.Is(err, auth.ErrTokenExpired):
			t.Errorf("%q: error %v is neither of the two", text, err)
		}
	})
}

func TestRingKeepsAndShares(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	text := b.sign(t)
	entries, err := filepath.Glob(filepath.Join(b.ring.dir, "*.pem"))
	if err != nil || len(entries) != 1 {
		t.Fatalf("key files: %v, %v", entries, err)
	}
	if info, err := os.Stat(entries[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the key file: %v, %v", info, err)
	}
	// A second process reads the same key.
	second := NewRing(b.ring.dir, plan, time.Now, nil)
	if err := second.Open(); err != nil {
		t.Fatal(err)
	}
	if _, err := NewCodec(second, "novacron", "api", b.codec.now).Verify(text); err != nil {
		t.Errorf("another process refuses the token: %v", err)
	}
	// A key that is added later signs, and is found by who had read the folder before.
	if err := createKey(b.ring.dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	third := NewRing(b.ring.dir, plan, time.Now, nil)
	if err := third.Open(); err != nil {
		t.Fatal(err)
	}
	if third.signingKey().id != b.ring.signingKey().id || len(third.JWKS().Keys) != 2 {
		t.Error("a key that was made a moment ago signs, before anybody can know it")
	}
	later := func() time.Time { return time.Now().Add(plan.PublishDelay) }
	third = NewRing(b.ring.dir, plan, later, nil)
	if err := third.Open(); err != nil {
		t.Fatal(err)
	}
	if third.signingKey().id <= b.ring.signingKey().id {
		t.Error("the newest key does not sign when its time has come")
	}
	fresh, err := NewCodec(third, "novacron", "api", b.codec.now).Sign(b.claims)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{text, fresh} {
		if _, err := b.codec.Verify(text); err != nil {
			t.Errorf("after a rotation: %v", err)
		}
	}
}

func TestRingStartsOnce(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	failed := make(chan error, 4)
	for range cap(failed) {
		go func() { failed <- NewRing(dir, plan, time.Now, nil).Open() }()
	}
	for range cap(failed) {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if keys, err := filepath.Glob(filepath.Join(dir, "*.pem")); err != nil || len(keys) != 1 {
		t.Errorf("keys made by processes that started together: %v, %v", keys, err)
	}
}

func TestRingRefusesBadFiles(t *testing.T) {
	t.Parallel()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(small)
	if err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func(path string) error{
		"garbage": func(p string) error { return os.WriteFile(p, []byte("key"), 0o600) },
		"small": func(p string) error {
			return os.WriteFile(p, pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), 0o600)
		},
		"readable by others": func(p string) error {
			return errors.Join(createKey(filepath.Dir(p), time.Now()), chmodAll(filepath.Dir(p), 0o644))
		},
		"a folder": func(p string) error { return os.Mkdir(p, 0o700) },
	} {
		dir := t.TempDir()
		if err := write(filepath.Join(dir, "k.pem")); err != nil {
			t.Fatal(err)
		}
		if err := NewRing(dir, plan, time.Now, nil).Open(); err == nil {
			t.Errorf("%s: the ring opened", name)
		}
	}
}

func chmodAll(dir string, mode os.FileMode) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	for _, f := range files {
		err = errors.Join(err, os.Chmod(f, mode))
	}
	return err
}

func TestUnopenedRingSignsNothing(t *testing.T) {
	t.Parallel()
	r := NewRing(filepath.Join(t.TempDir(), "none"), plan, time.Now, func(error) {})
	if _, err := NewCodec(r, "a", "b", time.Now).Sign(Claims{}); err == nil {
		t.Error("signed without a key")
	}
	if b, err := json.Marshal(r.JWKS()); err != nil || string(b) != `{"keys":[]}` {
		t.Errorf("key set %s, %v", b, err)
	}
}
