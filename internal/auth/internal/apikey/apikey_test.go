package apikey_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/apikey"
)

// form is what docs/api.md gives to secret scanners.
var form = regexp.MustCompile(`^nck_[a-z2-7]{12}_[0-9A-Za-z]{49}$`)

func TestKeysAreRecognised(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		k := apikey.New()
		prefix, ok := apikey.Parse(k.Text)
		if !ok || prefix != k.Prefix || !form.MatchString(k.Text) || len(k.Text) > auth.MaxAPIKeyBytes {
			t.Fatalf("key %q of prefix %q: parsed as %q, %v", k.Text, k.Prefix, prefix, ok)
		}
		if seen[k.Text] || seen[k.Prefix] {
			t.Fatalf("%q came twice", k.Text)
		}
		seen[k.Text], seen[k.Prefix] = true, true
		if again := apikey.Renew(k.Prefix); again.Prefix != k.Prefix || again.Text == k.Text || !strings.HasPrefix(again.Text, k.Prefix+"_") {
			t.Fatalf("renewed %q to %q", k.Text, again.Text)
		}
	}
}

// Every single wrong, swapped or lost character is noticed without asking the database.
func TestMistypedKeysAreNoticed(t *testing.T) {
	t.Parallel()
	key := apikey.New().Text
	for i := range len(key) {
		for _, c := range []byte("aZ09_ \x00\xff") {
			if wrong := key[:i] + string(c) + key[i+1:]; wrong != key {
				refuse(t, wrong)
			}
		}
		refuse(t, key[:i]+key[i+1:])
		refuse(t, key[:i]+"a"+key[i:])
		if i > 0 && key[i] != key[i-1] {
			refuse(t, key[:i-1]+key[i:i+1]+key[i-1:i]+key[i+1:])
		}
	}
}

func refuse(t *testing.T, key string) {
	t.Helper()
	if prefix, ok := apikey.Parse(key); ok {
		t.Errorf("%q was taken for a key named %q", key, prefix)
	}
}

// A known key, so that keys in use stay keys: the checksum is CRC-32 as in zlib, `python3 -c 'import zlib; print(zlib.crc32(b"nck_…"))'`,
// in base 62 with the digits 0-9A-Za-z.
func TestFormStays(t *testing.T) {
	t.Parallel()
	const known = "nck_abcdefghijkl_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg0WsIoZ"
	if prefix, ok := apikey.Parse(known); !ok || prefix != "nck_abcdefghijkl" {
		t.Errorf("%q is no key any more", known)
	}
}

func FuzzParse(f *testing.F) {
	key := apikey.New().Text
	for _, s := range []string{"", "nck_", key, key + "\n", " " + key, strings.ToUpper(key), key[:len(key)-1], "nck_" + strings.Repeat("\xff", apikey.Length-4), strings.Repeat("a", 1<<16)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		prefix, ok := apikey.Parse(s)
		if ok != (prefix != "") || ok && (!form.MatchString(s) || !strings.HasPrefix(s, prefix+"_")) {
			t.Errorf("Parse(%q) = %q, %v", s, prefix, ok)
		}
		apikey.HashOf(s)
	})
}
