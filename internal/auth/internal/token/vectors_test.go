package token

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// jwk is a key, or a set of keys, as the vectors give them.
type jwk struct {
	KeyType   string   `json:"kty"`
	Algorithm string   `json:"alg"`
	KeyID     string   `json:"kid"`
	Modulus   string   `json:"n"`
	Exponent  string   `json:"e"`
	Use       string   `json:"use"`
	Ops       []string `json:"key_ops"`
}

// ours tells whether a ring would hold such a key: it makes RSA keys to sign with RS256, and nothing else.
func (k jwk) ours() bool {
	return k.KeyType == "RSA" && k.Algorithm == "RS256" && (k.Use == "" || k.Use == "sig") && (len(k.Ops) == 0 || slices.Contains(k.Ops, "verify"))
}

type vectorFile struct {
	NumberOfTests int `json:"numberOfTests"`
	TestGroups    []struct {
		Private json.RawMessage `json:"private"`
		Public  json.RawMessage `json:"public"`
		Tests   []struct {
			ID      int        `json:"tcId"`
			Comment string     `json:"comment"`
			JWS     serialized `json:"jws"`
			JWE     serialized `json:"jwe"`
			Result  string     `json:"result"`
		} `json:"tests"`
	} `json:"testGroups"`
}

// serialized is a message in the compact form, or the text of one in the JSON form.
type serialized string

func (s *serialized) UnmarshalJSON(text []byte) error {
	var compact string
	if err := json.Unmarshal(text, &compact); err == nil {
		*s = serialized(compact)
		return nil
	}
	*s = serialized(text)
	return nil
}

func readVectors(t *testing.T, name string) vectorFile {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var f vectorFile
	if err := json.Unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func bigint(t *testing.T, text string) *big.Int {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return new(big.Int).SetBytes(b)
}

// Of Project Wycheproof's signatures and messages, RS256 ones count as they should, and no other algorithm is accepted at all: neither a valid
// RSA signature of another kind by the very key, nor anything symmetric, elliptic, encrypted or unsigned.
func TestWycheproofSignatures(t *testing.T) {
	t.Parallel()
	accepted, seen, all := 0, 0, 0
	for _, name := range []string{"json_web_signature_test.json", "json_web_crypto_test.json"} {
		f := readVectors(t, name)
		all += f.NumberOfTests
		for _, g := range f.TestGroups {
			var k jwk
			raw := g.Public
			if raw == nil {
				raw = g.Private
			}
			if err := json.Unmarshal(raw, &k); err != nil {
				t.Fatal(err)
			}
			key := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537} // somebody else's, for keys that are not RSA
			mine := k.ours() && !guessable(bigint(t, k.Modulus))
			if mine {
				key = &rsa.PublicKey{N: bigint(t, k.Modulus), E: int(bigint(t, k.Exponent).Int64())}
			}
			c := NewCodec(NewRing(t.TempDir(), plan, time.Now, nil), "issuer", "audience", time.Now)
			c.public = func(string) *rsa.PublicKey { return key } // whatever key a vector names, it finds the one of its group
			for _, v := range g.Tests {
				seen++
				text := string(v.JWS + v.JWE)
				want := v.Result == "valid" && mine
				_, err := c.verifySignature(text)
				if (err == nil) != want {
					t.Errorf("%s %d %s: error %v, want acceptance %v", name, v.ID, v.Comment, err, want)
				}
				if err == nil {
					accepted++
				}
			}
		}
	}
	if accepted != 9 || seen != all || all != 484 {
		t.Errorf("%d of %d vectors accepted, %d announced: are they all there?", accepted, seen, all)
	}
}

// The vectors about keys are about what a verifier makes of keys it is given. Ours takes none from anybody: whatever they sign is refused, the
// valid ones too, also where the token brings its key along.
func TestWycheproofKeys(t *testing.T) {
	t.Parallel()
	ring := NewRing(filepath.Join(t.TempDir(), "keys"), plan, time.Now, func(error) {})
	if err := ring.Open(); err != nil {
		t.Fatal(err)
	}
	c := NewCodec(ring, "issuer", "audience", time.Now)
	seen := 0
	for _, name := range []string{"json_web_key_test.json", "json_web_signature_test.json", "json_web_crypto_test.json"} {
		for _, g := range readVectors(t, name).TestGroups {
			for _, v := range g.Tests {
				seen++
				if _, err := c.Verify(string(v.JWS + v.JWE)); err == nil {
					t.Errorf("%s %d %s: a key that is not ours counts", name, v.ID, v.Comment)
				}
			}
		}
	}
	if seen != 510 {
		t.Errorf("%d vectors, want 510", seen)
	}
}
