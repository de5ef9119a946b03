package token

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"os"
	"testing"
	"time"
)

type vectorGroup struct {
	Group     string `json:"group"`
	KeyType   string `json:"kty"`
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Modulus   string `json:"n"`
	Exponent  string `json:"e"`
	Tests     []struct {
		ID      int    `json:"id"`
		Comment string `json:"comment"`
		JWS     string `json:"jws"`
		Result  string `json:"result"`
	} `json:"tests"`
}

func bigint(t *testing.T, text string) *big.Int {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return new(big.Int).SetBytes(b)
}

// Of Project Wycheproof's signatures, RS256 ones count as they should, and no other algorithm is accepted at all: neither a valid RSA
// signature of another kind by the very key, nor anything symmetric or elliptic.
func TestWycheproofSignatures(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/wycheproof.json")
	if err != nil {
		t.Fatal(err)
	}
	var groups []vectorGroup
	if err := json.Unmarshal(text, &groups); err != nil {
		t.Fatal(err)
	}
	accepted, refused := 0, 0
	for _, g := range groups {
		key := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537} // somebody else's, for keys that are not RSA
		if g.KeyType == "RSA" {
			key = &rsa.PublicKey{N: bigint(t, g.Modulus), E: int(bigint(t, g.Exponent).Int64())}
		}
		c := NewCodec(NewRing(t.TempDir(), plan, time.Now, nil), "issuer", "audience", time.Now)
		c.public = func(kid string) *rsa.PublicKey {
			if kid == g.KeyID {
				return key
			}
			return nil
		}
		for _, v := range g.Tests {
			want := v.Result == "valid" && g.KeyType == "RSA" && g.Algorithm == "RS256"
			_, err := c.verifySignature(v.JWS)
			if (err == nil) != want {
				t.Errorf("%s %d %s: error %v, want acceptance %v", g.Group, v.ID, v.Comment, err, want)
			}
			if err == nil {
				accepted++
			} else {
				refused++
			}
		}
	}
	if accepted < 6 || refused < 225 {
		t.Errorf("%d accepted and %d refused: are the vectors all there?", accepted, refused)
	}
}
