// Package hop carries the caller of a request from the gateway's process to a module's. The gateway signs who the caller is with the key of
// the certificate that it shows in mutual TLS; the module's listener checks the signature with that certificate, so what a client sends can
// neither forge the caller nor repeat one over a connection of its own.
//
// A token lives a minute and is meant for one module. Everything else about the request travels in headers that count only beside it. Calls of
// modules by gRPC (package grpcx) carry their callers in the same tokens, signed by the process that calls.
package hop

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
)

// The headers of a hop. The gateway drops them from what clients send.
const (
	HeaderCaller   = "X-Novacron-Caller"   // the signed caller
	HeaderDeadline = "X-Novacron-Deadline" // how many milliseconds the answer may still take
	HeaderPath     = "X-Novacron-Path"     // as the client wrote it, for problem documents
	headerClient   = "X-Novacron-Client"   // its address
)

// Headers lists those that mean something on a hop.
func Headers() []string { return []string{HeaderCaller, HeaderDeadline, HeaderPath, headerClient} }

const (
	issuer   = "novacron-gateway" // whoever signs: which process that is, its certificate tells
	lifetime = time.Minute
	// reuse is how long a token is used before a new one is signed: signing costs more than all the rest of a hop.
	reuse = 20 * time.Second
	// leeway is how far the clocks of two hosts may be apart.
	leeway = 30 * time.Second
)

type claims struct {
	jwt.RegisteredClaims
	Caller identity.Principal `json:"caller"`
	Known  bool               `json:"known"`
}

// Signer signs callers. It is safe for concurrent use.
type Signer struct {
	certificate func() *tls.Certificate
	now         func() time.Time

	mu     sync.Mutex // guards recent
	recent map[string]signed
}

type signed struct {
	token string
	at    time.Time
	key   any // that it was signed with
}

// maxRecent bounds the tokens that are used again.
const maxRecent = 10_000

// NewSigner makes a Signer that signs with the key of the certificate which the gateway shows; it may be another one each time.
func NewSigner(certificate func() *tls.Certificate) *Signer {
	return &Signer{certificate: certificate, now: time.Now, recent: map[string]signed{}}
}

// ErrNoKey says that the gateway's certificate has no key of the kind that is needed.
var ErrNoKey = errors.New("the certificate for other modules has no ECDSA key on the curve P-256")

// Sign makes the token that tells a module who the caller is. known is false for nobody.
func (s *Signer) Sign(module string, caller identity.Principal, known bool) (string, error) {
	cert := s.certificate()
	if cert == nil {
		return "", ErrNoKey
	}
	key, ok := cert.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return "", ErrNoKey
	}
	encoded, err := json.Marshal(caller)
	if err != nil {
		return "", fmt.Errorf("encode the caller: %w", err)
	}
	name, now := module+"\x00"+strconv.FormatBool(known)+string(encoded), s.now()
	s.mu.Lock()
	last, ok := s.recent[name]
	s.mu.Unlock()
	if ok && now.Sub(last.at) < reuse && now.After(last.at.Add(-time.Second)) && last.key == any(key) {
		return last.token, nil
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodES256, claims{Caller: caller, Known: known, RegisteredClaims: jwt.RegisteredClaims{
		Issuer: issuer, Audience: jwt.ClaimStrings{module}, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(lifetime)),
		ID: uuid.NewString(),
	}}).SignedString(key)
	if err != nil {
		return "", fmt.Errorf("sign the caller: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.recent) >= maxRecent {
		clear(s.recent)
	}
	s.recent[name] = signed{token: token, at: now, key: key}
	return token, nil
}

// Stamp puts the caller and what else is known of a request that the gateway answers into the header of the one that it sends on.
func (s *Signer) Stamp(in, out *http.Request, module string) error {
	ctx := in.Context()
	caller, known := identity.From(ctx)
	token, err := s.Sign(module, caller, known)
	if err != nil {
		return err
	}
	h := out.Header
	for _, name := range []string{"Authorization", "X-Api-Key"} {
		h.Del(name) // who the caller is has been found out; the secret stays here
	}
	h.Set(HeaderCaller, token)
	h.Set("X-Request-Id", httpx.RequestID(ctx))
	h.Set(HeaderPath, httpx.InstancePath(ctx))
	if addr := httpx.ClientInfo(ctx).Addr; addr.IsValid() {
		h.Set(headerClient, addr.String())
	} else {
		h.Del(headerClient)
	}
	h.Del(HeaderDeadline)
	if deadline, ok := ctx.Deadline(); ok {
		h.Set(HeaderDeadline, strconv.FormatInt(max(time.Until(deadline).Milliseconds(), 1), 10))
	}
	return nil
}

// Verifier checks tokens for one module. It is safe for concurrent use.
type Verifier struct {
	module  string
	gateway map[string]bool
	now     func() time.Time

	mu     sync.Mutex // guards recent
	recent map[string]verified
}

type verified struct {
	claims claims
	by     string // the certificate that it was checked with
}

// NewVerifier makes a Verifier for a module. Only certificates with one of the given common names are a gateway's.
func NewVerifier(module string, gateways ...string) *Verifier {
	v := &Verifier{module: module, gateway: map[string]bool{}, now: time.Now, recent: map[string]verified{}}
	for _, name := range gateways {
		v.gateway[name] = true
	}
	return v
}

// errRefused is why a request does not come from a gateway.
var errRefused = errors.New("the request does not come from a gateway")

func refuse(why string, args ...any) (identity.Principal, bool, error) {
	return identity.Principal{}, false, fmt.Errorf("%w: "+why, append([]any{errRefused}, args...)...)
}

// Verify tells who the caller of a request is that came over mutual TLS.
func (v *Verifier) Verify(r *http.Request) (caller identity.Principal, known bool, err error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return refuse("no certificate")
	}
	peer := r.TLS.PeerCertificates[0]
	if !v.gateway[peer.Subject.CommonName] {
		return refuse("the certificate of %q is none of a gateway", peer.Subject.CommonName)
	}
	list := r.Header[HeaderCaller]
	if len(list) != 1 {
		return refuse("%d callers", len(list))
	}
	return v.VerifyToken(peer, list[0])
}

// VerifyToken tells whom a token names that came over a connection whose other side has shown the certificate.
func (v *Verifier) VerifyToken(peer *x509.Certificate, token string) (caller identity.Principal, known bool, err error) {
	by := string(peer.Raw)
	v.mu.Lock()
	seen, ok := v.recent[token]
	v.mu.Unlock()
	if ok && seen.by == by && v.now().Before(seen.claims.ExpiresAt.Add(leeway)) {
		return seen.claims.Caller, seen.claims.Known, nil
	}
	var c claims
	_, err = jwt.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) {
		if key, ok := peer.PublicKey.(*ecdsa.PublicKey); ok {
			return key, nil
		}
		return nil, ErrNoKey
	}, jwt.WithValidMethods([]string{jwt.SigningMethodES256.Alg()}), jwt.WithIssuer(issuer), jwt.WithAudience(v.module), jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(), jwt.WithLeeway(leeway), jwt.WithTimeFunc(v.now))
	if err != nil {
		return refuse("%w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.recent) >= maxRecent {
		clear(v.recent)
	}
	v.recent[token] = verified{claims: c, by: by}
	return c.Caller, c.Known, nil
}

// client gives what the gateway said about the client.
func client(r *http.Request) httpx.Client {
	addr, err := netip.ParseAddr(strings.TrimSpace(r.Header.Get(headerClient)))
	if err != nil {
		addr = netip.Addr{}
	}
	return httpx.Client{Addr: addr, UserAgent: r.UserAgent()}
}
