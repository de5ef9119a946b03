package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// Pair is a certificate and its key in files that may be replaced at any time: a new one is used for the next connection.
type Pair struct{ watched[*tls.Certificate] }

// LoadPair reads a certificate and its key.
func LoadPair(certFile, keyFile string) (*Pair, error) {
	p := &Pair{watched[*tls.Certificate]{files: []string{certFile, keyFile}, read: func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("read certificate %s and key %s: %w", certFile, keyFile, err)
		}
		return &pair, nil
	}}}
	if err := p.Reload(); err != nil {
		return nil, err
	}
	return p, nil
}

// Certificate gives the certificate to use now.
func (p *Pair) Certificate() *tls.Certificate { return p.now() }

// Pool reads the certificates of authorities from a file.
func Pool(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read certificates of authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return pool, nil
}

// ServerConfig is TLS 1.2 or later for a server. With a pool of authorities, clients must show a certificate that one of them signed.
func ServerConfig(p *Pair, clients *x509.CertPool) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if cert := p.Certificate(); cert != nil {
				return cert, nil
			}
			return nil, errors.New("there is no certificate")
		}}
	if clients != nil {
		c.ClientCAs, c.ClientAuth = clients, tls.RequireAndVerifyClientCert
	}
	return c
}

// ClientConfig is TLS 1.2 or later for a client that trusts the pool's authorities, and the system's where it is nil. With a pair it shows
// who it is.
func ClientConfig(p *Pair, authorities *x509.CertPool) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: authorities}
	if p != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return p.Certificate(), nil }
	}
	return c
}
