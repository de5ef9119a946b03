package pki

import (
	"crypto/tls"
	"crypto/x509"
)

// Authorities are those of a file that may be replaced at any time: the new ones decide about the next connection. So that an authority can follow
// another one, a file holds both for a while.
type Authorities struct{ watched[*x509.CertPool] }

// LoadAuthorities reads the certificates of authorities.
func LoadAuthorities(file string) (*Authorities, error) {
	a := &Authorities{watched[*x509.CertPool]{files: []string{file}, read: func() (*x509.CertPool, error) { return Pool(file) }}}
	if err := a.Reload(); err != nil {
		return nil, err
	}
	return a, nil
}

// Pool gives the authorities to go by now.
func (a *Authorities) Pool() *x509.CertPool { return a.now() }

// MutualConfig is ServerConfig for clients of the authorities as they are when one comes. protocols are what may be spoken, the best first, because
// a server adds them to a configuration of its own only. Nobody resumes a session, so that nobody comes back by a certificate that is not
// accepted any more.
func MutualConfig(p *Pair, clients *Authorities, ask tls.ClientAuthType, protocols ...string) *tls.Config {
	now := func() *tls.Config {
		c := ServerConfig(p, clients.Pool())
		c.ClientAuth, c.NextProtos, c.SessionTicketsDisabled = ask, protocols, true
		return c
	}
	c := now()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return now(), nil }
	return c
}
