package pki

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"
)

// Authorities are those of a file that may be replaced at any time: the new ones decide about the next connection. A file that cannot be read, or
// holds none, leaves the old ones in use. So that an authority can follow another one, a file holds both for a while.
type Authorities struct {
	file string

	mu      sync.Mutex // guards what follows
	current *x509.CertPool
	stamp   string // of the file that current was read from
	checked time.Time
}

// LoadAuthorities reads the certificates of authorities.
func LoadAuthorities(file string) (*Authorities, error) {
	a := &Authorities{file: file}
	if err := a.Reload(); err != nil {
		return nil, err
	}
	return a, nil
}

// Reload reads the file now.
func (a *Authorities) Reload() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.read()
}

func (a *Authorities) read() error {
	a.checked = time.Now()
	stamp, err := stampOf(a.file)
	if err != nil || stamp == a.stamp {
		return err
	}
	pool, err := Pool(a.file)
	if err != nil {
		return err
	}
	a.current, a.stamp = pool, stamp
	return nil
}

// Pool gives the authorities to go by now.
func (a *Authorities) Pool() *x509.CertPool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Since(a.checked) > checkEvery {
		_ = a.read() // the old ones stay in use
	}
	return a.current
}

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

// stampOf tells files from those that they were before.
func stampOf(files ...string) (stamp string, err error) {
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			return "", fmt.Errorf("look at %s: %w", f, err)
		}
		stamp += fmt.Sprintf("%d/%d;", info.ModTime().UnixNano(), info.Size())
	}
	return stamp, nil
}
