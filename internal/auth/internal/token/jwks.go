package token

import (
	"encoding/base64"
	"math/big"
)

// JWKS is a JSON Web Key Set, RFC 7517.
type JWKS struct {
	Keys []JWK `json:"keys" nullable:"false"`
}

// JWK is one public RSA key, RFC 7517 and RFC 7518 section 6.3.1.
type JWK struct {
	KeyType   string `json:"kty" example:"RSA"`
	Use       string `json:"use" example:"sig"`
	Algorithm string `json:"alg" example:"RS256"`
	ID        string `json:"kid" doc:"What the header of a token names."`
	Modulus   string `json:"n"`
	Exponent  string `json:"e" example:"AQAB"`
}

func describe(keys []signingKey) JWKS {
	set := JWKS{Keys: make([]JWK, 0, len(keys))}
	for _, k := range keys {
		pub := k.private.PublicKey
		set.Keys = append(set.Keys, JWK{
			KeyType: "RSA", Use: "sig", Algorithm: algorithm, ID: k.id,
			Modulus:  base64.RawURLEncoding.EncodeToString(pub.N.Bytes()),
			Exponent: base64.RawURLEncoding.EncodeToString(big.NewInt(int64(pub.E)).Bytes()),
		})
	}
	return set
}
