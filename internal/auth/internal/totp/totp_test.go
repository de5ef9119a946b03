package totp

import (
	"bytes"
	"image/png"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/pquerna/otp"
)

// The vectors of RFC 6238, appendix B. The keys repeat 1234567890 to the length of the hash, as the reference implementation there does.
func TestRFC6238(t *testing.T) {
	digits := strings.Repeat("1234567890", 7)
	keys := map[otp.Algorithm]string{otp.AlgorithmSHA1: digits[:20], otp.AlgorithmSHA256: digits[:32], otp.AlgorithmSHA512: digits[:64]}
	for _, v := range []struct {
		at   int64
		algo otp.Algorithm
		want string
	}{
		{59, otp.AlgorithmSHA1, "94287082"}, {59, otp.AlgorithmSHA256, "46119246"}, {59, otp.AlgorithmSHA512, "90693936"},
		{1111111109, otp.AlgorithmSHA1, "07081804"}, {1111111109, otp.AlgorithmSHA256, "68084774"}, {1111111109, otp.AlgorithmSHA512, "25091201"},
		{1111111111, otp.AlgorithmSHA1, "14050471"}, {1111111111, otp.AlgorithmSHA256, "67062674"}, {1111111111, otp.AlgorithmSHA512, "99943326"},
		{1234567890, otp.AlgorithmSHA1, "89005924"}, {1234567890, otp.AlgorithmSHA256, "91819424"}, {1234567890, otp.AlgorithmSHA512, "93441116"},
		{2000000000, otp.AlgorithmSHA1, "69279037"}, {2000000000, otp.AlgorithmSHA256, "90698825"}, {2000000000, otp.AlgorithmSHA512, "38618901"},
		{20000000000, otp.AlgorithmSHA1, "65353130"}, {20000000000, otp.AlgorithmSHA256, "77737706"}, {20000000000, otp.AlgorithmSHA512, "47863826"},
	} {
		got, err := codeAt([]byte(keys[v.algo]), Step(time.Unix(v.at, 0)), otp.DigitsEight, v.algo)
		if err != nil || got != v.want {
			t.Errorf("%v at %d: %s, %v, want %s", v.algo, v.at, got, err, v.want)
		}
		if v.algo == otp.AlgorithmSHA1 { // what apps show: the last six digits
			if six, err := Code([]byte(keys[v.algo]), time.Unix(v.at, 0)); err != nil || six != v.want[2:] {
				t.Errorf("six digits at %d: %s, %v", v.at, six, err)
			}
		}
	}
}

func TestMatch(t *testing.T) {
	secret := NewSecret()
	now := time.Unix(1_800_000_015, 0)
	for offset, want := range map[time.Duration]bool{0: true, -Period: true, Period: true, -2 * Period: false, 2 * Period: false, time.Hour: false} {
		code, err := Code(secret, now.Add(offset))
		if err != nil {
			t.Fatal(err)
		}
		step, ok, err := Match(secret, code, now, 0)
		if err != nil || ok != want || ok && step != Step(now.Add(offset)) {
			t.Errorf("a code of %s later: %v, step %d, %v", offset, ok, step, err)
		}
		if ok { // and not again, nor any older one
			if _, again, err := Match(secret, code, now, step); again || err != nil {
				t.Errorf("a code of %s later counts twice: %v", offset, err)
			}
		}
	}
	for _, bad := range []string{"", "1", "12345", "1234567", "abcdef", "١٢٣٤٥٦", strings.Repeat("1", 10_000)} {
		if _, ok, err := Match(secret, bad, now, 0); ok || err != nil {
			t.Errorf("%.20q: %v, %v", bad, ok, err)
		}
		if IsCode(bad) {
			t.Errorf("%.20q has the form of a code", bad)
		}
	}
}

func TestURIAndPicture(t *testing.T) {
	secret := NewSecret()
	uri := URI("Nova Cron & Sons", "ada+x@example.org", secret)
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	if u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/Nova Cron & Sons:ada+x@example.org" || strings.Contains(uri, "+") && strings.Contains(u.RawQuery, "+") {
		t.Errorf("URI %s", uri)
	}
	q := u.Query()
	if q.Get("secret") != Text(secret) || q.Get("issuer") != "Nova Cron & Sons" || q.Get("digits") != "6" || q.Get("period") != "30" || q.Get("algorithm") != "SHA1" {
		t.Errorf("URI %s", uri)
	}
	picture, err := PNG(uri)
	if err != nil {
		t.Fatal(err)
	}
	if img, err := png.Decode(bytes.NewReader(picture)); err != nil || img.Bounds().Dx() != qrPixels {
		t.Errorf("picture: %v", err)
	}
}

func TestRecoveryCodes(t *testing.T) {
	seen := map[string]bool{}
	ada, bob := uuid.New(), uuid.New()
	for _, code := range NewRecoveryCodes() {
		if len(code) != 19 || seen[code] || IsCode(Tidy(code)) {
			t.Errorf("code %q", code)
		}
		seen[code] = true
		if !bytes.Equal(HashRecoveryCode(ada, code), HashRecoveryCode(ada, strings.ToUpper(strings.ReplaceAll(code, "-", " ")))) {
			t.Errorf("%q is not known again as people type it", code)
		}
		if bytes.Equal(HashRecoveryCode(ada, code), HashRecoveryCode(bob, code)) {
			t.Error("two users' codes have one hash")
		}
	}
	if len(seen) != RecoveryCodes {
		t.Errorf("%d codes", len(seen))
	}
}
