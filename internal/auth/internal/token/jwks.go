package token

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
)

// jwk is one RSA public key as RFC 7517 and RFC 7518 section 6.3.1 write it.
type jwk struct {
	KeyType   string `json:"kty"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
	ID        string `json:"kid"`
	Modulus   string `json:"n"`
	Exponent  string `json:"e"`
}

func encodeJWKS(keys []signingKey) ([]byte, error) {
	set := struct {
		Keys []jwk `json:"keys"`
	}{Keys: make([]jwk, 0, len(keys))}
	for _, k := range keys {
		pub := k.private.PublicKey
		set.Keys = append(set.Keys, jwk{
			KeyType: "RSA", Use: "sig", Algorithm: algorithm, ID: k.id,
			Modulus:  base64.RawURLEncoding.EncodeToString(pub.N.Bytes()),
			Exponent: base64.RawURLEncoding.EncodeToString(big.NewInt(int64(pub.E)).Bytes()),
		})
	}
	b, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("encode key set: %w", err)
	}
	return b, nil
}
