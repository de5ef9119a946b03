package grpcx

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/novacron/novacron/internal/platform/hop"
	"github.com/novacron/novacron/internal/platform/identity"
)

// moduleOf gives the module that a service or method is of: "vm" of "/novacron.vm.v1.VMService/ListVMs". It is whom a caller is signed for.
func moduleOf(name string) string {
	parts := strings.SplitN(strings.TrimPrefix(name, "/"), ".", 3)
	if len(parts) < 3 {
		return ""
	}
	return parts[1]
}

// shown gives the certificate that the other side has shown, and its common name.
func shown(ctx context.Context) (*x509.Certificate, string) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, ""
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return nil, ""
	}
	certificate := info.State.PeerCertificates[0]
	return certificate, certificate.Subject.CommonName
}

// verifiers check callers, by the module that is called. They are all there before the first call.
type verifiers map[string]*hop.Verifier

// with puts the principal that the other process names into the context. A call that names none is made for nobody.
func (v verifiers) with(ctx context.Context, certificate *x509.Certificate, tokens []string, method string) (context.Context, error) {
	switch {
	case len(tokens) == 0:
		return ctx, nil
	case len(tokens) > 1:
		return ctx, fmt.Errorf("%d callers", len(tokens))
	case v[moduleOf(method)] == nil:
		return ctx, errors.New("a method of no module")
	}
	p, known, err := v[moduleOf(method)].VerifyToken(certificate, tokens[0])
	if err != nil || !known {
		return ctx, err
	}
	return identity.With(ctx, p), nil
}
