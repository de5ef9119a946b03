package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// Pair is a certificate and its key in files that may be replaced at any time: a new one is used for the next connection. Files that
// cannot be read, for example because only one of them is new yet, leave the old one in use.
type Pair struct {
	certFile, keyFile string

	mu      sync.Mutex // guards what follows
	current *tls.Certificate
	stamp   string // of the files that current was read from
	checked time.Time
}

// checkEvery is how long a pair of files is believed to be unchanged.
const checkEvery = 5 * time.Second

// LoadPair reads a certificate and its key.
func LoadPair(certFile, keyFile string) (*Pair, error) {
	p := &Pair{certFile: certFile, keyFile: keyFile}
	if err := p.Reload(); err != nil {
		return nil, err
	}
	return p, nil
}

// Reload reads the files now.
func (p *Pair) Reload() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.read()
}

func (p *Pair) read() error {
	p.checked = time.Now()
	stamp, err := stampOf(p.certFile, p.keyFile)
	if err != nil {
		return err
	}
	if stamp == p.stamp {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(p.certFile, p.keyFile)
	if err != nil {
		return fmt.Errorf("read certificate %s and key %s: %w", p.certFile, p.keyFile, err)
	}
	p.current, p.stamp = &pair, stamp
	return nil
}

// Certificate gives the certificate to use now.
func (p *Pair) Certificate() *tls.Certificate {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.checked) > checkEvery {
		_ = p.read() // the old one stays in use
	}
	return p.current
}

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
