// Package pki is the installation's own certificate authority: a folder with the CA's key and certificate, from which servers, nodes and
// clients get certificates for mutual TLS. The keys are ECDSA P-256; files with keys have the mode 0600.
//
// The folder of the CA stays on the host that made it. Others need only ca.crt, and the certificate and key that were issued to them.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/novacron/novacron/internal/platform/atomicfile"
)

// The files in the folder of a CA.
const (
	caCertFile = "ca.crt"
	caKeyFile  = "ca.key"
)

// How long certificates live. A CA is made once; what it issues is renewed with the software.
const (
	caLife = 20 * 365 * 24 * time.Hour
	// Life is how long a certificate lives that a CA issues: the longest that browsers take (CA/Browser Forum, Baseline Requirements 6.3.2).
	Life     = 397 * 24 * time.Hour
	backdate = 5 * time.Minute // for clocks that are behind
)

// CA issues certificates.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// ErrExists says that the folder holds a CA already.
var ErrExists = errors.New("there is a certificate authority already")

// Init makes a CA in a folder, which it makes too. It fails with ErrExists where there is one.
func Init(dir, name string) (*CA, error) {
	if _, err := os.Stat(filepath.Join(dir, caKeyFile)); err == nil {
		return nil, fmt.Errorf("%w in %s", ErrExists, dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make folder of the certificate authority: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key of the certificate authority: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{Organization: []string{"NovaCron"}, CommonName: name},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(caLife), IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of the authority: %w", err)
	}
	// The certificate first: a folder that was left half made has no key, and Init begins anew.
	if err := atomicfile.Write(filepath.Join(dir, caCertFile), encode("CERTIFICATE", der), 0o644); err != nil {
		return nil, err
	}
	if err := writeKey(filepath.Join(dir, caKeyFile), key); err != nil {
		return nil, err
	}
	return Open(dir)
}

// Open opens the CA in a folder. It fails with fs.ErrNotExist where there is none.
func Open(dir string) (*CA, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, caCertFile), filepath.Join(dir, caKeyFile))
	if err != nil {
		return nil, fmt.Errorf("read certificate authority: %w", err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("%s holds no certificate authority of ours", dir)
	}
	return &CA{cert: pair.Leaf, key: key, pem: encode("CERTIFICATE", pair.Leaf.Raw)}, nil
}

// OpenOrInit opens the CA in a folder, and makes it where there is none.
func OpenOrInit(dir, name string) (*CA, error) {
	ca, err := Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return Init(dir, name)
	}
	return ca, err
}

// CertPEM is the certificate that others trust the CA by.
func (c *CA) CertPEM() []byte { return c.pem }

// Request says what a certificate is for.
type Request struct {
	Name  string   // common name, for people and for the other side to know whom it talks to
	Hosts []string // host names and addresses that a server is reached by; none: the certificate is for clients only
}

// Issue signs a new certificate, and gives it with its key as PEM.
func (c *CA) Issue(req Request) (certPEM, keyPEM []byte, err error) {
	if req.Name == "" || len(req.Name) > 64 {
		return nil, nil, errors.New("a certificate needs a name of 1 to 64 characters")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{Organization: []string{"NovaCron"}, CommonName: req.Name},
		NotBefore: now.Add(-backdate), NotAfter: minTime(now.Add(Life), c.cert.NotAfter), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if len(req.Hosts) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	for _, h := range req.Hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		if h == "" || strings.ContainsAny(h, " /:*") && !strings.HasPrefix(h, "*.") {
			return nil, nil, fmt.Errorf("%q is neither a host name nor an address", h)
		}
		template.DNSNames = append(template.DNSNames, h)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, key.Public(), c.key)
	if err != nil {
		return nil, nil, fmt.Errorf("sign certificate: %w", err)
	}
	encoded, err := encodeKey(key)
	if err != nil {
		return nil, nil, err
	}
	return encode("CERTIFICATE", der), encoded, nil
}

// IssueTo writes a new certificate and its key to name.crt and name.key in a folder, and the CA's certificate to ca.crt beside them.
func (c *CA) IssueTo(dir string, req Request) (certFile, keyFile string, err error) {
	if strings.ContainsAny(req.Name, "/\x00") || strings.HasPrefix(req.Name, ".") {
		return "", "", fmt.Errorf("%q cannot be the name of a file", req.Name)
	}
	cert, key, err := c.Issue(req)
	if err != nil {
		return "", "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", fmt.Errorf("make folder for certificates: %w", err)
	}
	certFile, keyFile = filepath.Join(dir, req.Name+".crt"), filepath.Join(dir, req.Name+".key")
	return certFile, keyFile, errors.Join(atomicfile.Write(keyFile, key, 0o600), atomicfile.Write(certFile, cert, 0o644),
		atomicfile.Write(filepath.Join(dir, caCertFile), c.pem, 0o644))
}

// renewBefore is how long before its end a certificate is replaced.
const renewBefore = 60 * 24 * time.Hour

// Ensure gives the files of a certificate in a folder, and issues a new one where there is none, where it ends soon, and where it is for other
// hosts or of another authority.
func (c *CA) Ensure(dir string, req Request) (certFile, keyFile string, err error) {
	certFile, keyFile = filepath.Join(dir, req.Name+".crt"), filepath.Join(dir, req.Name+".key")
	if pair, err := tls.LoadX509KeyPair(certFile, keyFile); err == nil {
		fits := time.Until(pair.Leaf.NotAfter) > renewBefore && pair.Leaf.CheckSignatureFrom(c.cert) == nil
		for _, h := range req.Hosts {
			fits = fits && pair.Leaf.VerifyHostname(h) == nil
		}
		if fits {
			return certFile, keyFile, nil
		}
	}
	return c.IssueTo(dir, req)
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil { // cannot happen: crypto/rand never fails
		return big.NewInt(time.Now().UnixNano())
	}
	return n.Add(n, big.NewInt(1))
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return encode("PRIVATE KEY", der), nil
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	encoded, err := encodeKey(key)
	if err != nil {
		return err
	}
	return atomicfile.Write(path, encoded, 0o600)
}
