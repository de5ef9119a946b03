package token

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
)

const (
	algorithm = "RS256"
	// Leeway is how far the clocks of two hosts may be apart.
	Leeway = 30 * time.Second
)

// Claims are what an access token says.
type Claims struct {
	ID        string // jti
	UserID    uuid.UUID
	SessionID uuid.UUID
	TenantID  uuid.UUID
	Role      string
	ExpiresAt time.Time
}

// wireClaims is the JSON form.
type wireClaims struct {
	jwt.RegisteredClaims
	SessionID uuid.UUID `json:"sid"`
	TenantID  uuid.UUID `json:"tid"`
	Role      string    `json:"role"`
}

// Codec makes and checks tokens of one issuer for one audience.
type Codec struct {
	ring      *Ring
	public    func(kid string) *rsa.PublicKey
	issuer    string
	audience  string
	now       func() time.Time
	validator *jwt.Validator
}

// NewCodec makes a Codec.
func NewCodec(ring *Ring, issuer, audience string, now func() time.Time) *Codec {
	return &Codec{
		ring: ring, public: ring.Public, issuer: issuer, audience: audience, now: now,
		validator: jwt.NewValidator(jwt.WithIssuer(issuer), jwt.WithAudience(audience), jwt.WithExpirationRequired(),
			jwt.WithNotBeforeRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(Leeway), jwt.WithTimeFunc(now)),
	}
}

// Sign makes the token of the claims. It fills in ID.
func (c *Codec) Sign(claims Claims) (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make token id: %w", err)
	}
	now := c.now()
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, wireClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			ID: id.String(), Issuer: c.issuer, Audience: jwt.ClaimStrings{c.audience}, Subject: claims.UserID.String(),
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(claims.ExpiresAt),
		},
		SessionID: claims.SessionID, TenantID: claims.TenantID, Role: claims.Role,
	})
	key := c.ring.signingKey()
	if key.private == nil {
		return "", errors.New("sign token: the keys have not been read yet")
	}
	t.Header["kid"] = key.id
	signed, err := t.SignedString(key.private)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return signed, nil
}

// Verify gives the claims of a good token. It fails with auth.ErrInvalidToken or auth.ErrTokenExpired.
func (c *Codec) Verify(token string) (Claims, error) {
	payload, err := c.verifySignature(token)
	if err != nil {
		return Claims{}, auth.ErrInvalidToken.Wrap(err)
	}
	var w wireClaims
	if err := json.Unmarshal(payload, &w); err != nil {
		return Claims{}, auth.ErrInvalidToken.Wrap(fmt.Errorf("claims: %w", err))
	}
	userID, err := uuid.Parse(w.Subject)
	if err != nil || w.ID == "" || userID == uuid.Nil || w.SessionID == uuid.Nil || w.TenantID == uuid.Nil {
		return Claims{}, auth.ErrInvalidToken.Wrap(errors.New("sub, sid, tid or jti is missing"))
	}
	if err := c.validator.Validate(w); err != nil {
		if onlyExpired(err) {
			return Claims{}, auth.ErrTokenExpired.Wrap(err)
		}
		return Claims{}, auth.ErrInvalidToken.Wrap(err)
	}
	return Claims{
		ID: w.ID, UserID: userID, SessionID: w.SessionID, TenantID: w.TenantID, Role: w.Role, ExpiresAt: w.ExpiresAt.UTC(),
	}, nil
}

// onlyExpired tells that a token is good but for its age. The validator reports all that is wrong at once.
func onlyExpired(err error) bool {
	for _, other := range []error{jwt.ErrTokenInvalidAudience, jwt.ErrTokenInvalidIssuer, jwt.ErrTokenNotValidYet,
		jwt.ErrTokenUsedBeforeIssued, jwt.ErrTokenRequiredClaimMissing} {
		if errors.Is(err, other) {
			return false
		}
	}
	return errors.Is(err, jwt.ErrTokenExpired)
}

var strict = base64.RawURLEncoding.Strict()

// verifySignature gives the payload of a compact JWS (RFC 7515, section 5.2) that one of our keys has signed.
func (c *Codec) verifySignature(token string) ([]byte, error) {
	if len(token) > auth.MaxTokenBytes {
		return nil, errors.New("too long")
	}
	// The decoder of the standard library passes over line breaks, which would give one token many spellings.
	if strings.ContainsAny(token, "\r\n") {
		return nil, errors.New("holds a line break")
	}
	signed, signature, hasSignature := cutLast(token, '.')
	header64, payload64, hasPayload := strings.Cut(signed, ".")
	if !hasSignature || !hasPayload || strings.Contains(payload64, ".") {
		return nil, errors.New("has not three parts")
	}
	headerJSON, err := strict.DecodeString(header64)
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	var header struct {
		Algorithm string          `json:"alg"`
		KeyID     string          `json:"kid"`
		Critical  json.RawMessage `json:"crit"`
	}
	if err := json.Unmarshal(headerJSON, &header); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	switch {
	case header.Algorithm != algorithm:
		return nil, fmt.Errorf("algorithm %.20q is not %s", header.Algorithm, algorithm)
	case header.Critical != nil: // we understand no extension, so none may be critical
		return nil, errors.New("has a crit header")
	case header.KeyID == "":
		return nil, errors.New("names no key")
	}
	key := c.public(header.KeyID)
	if key == nil {
		return nil, errors.New("names an unknown key")
	}
	sig, err := strict.DecodeString(signature)
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	if err := jwt.SigningMethodRS256.Verify(signed, sig, key); err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	payload, err := strict.DecodeString(payload64)
	if err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	return payload, nil
}

func cutLast(s string, sep byte) (before, after string, found bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}
