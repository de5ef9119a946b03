package gatewaymodule

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"

	"github.com/novacron/novacron/internal/platform/pki"
)

// secure gives the function that serves on a listener, with TLS where the configuration has a certificate. Over TLS clients may speak
// HTTP/2.
func (m *Module) secure(l net.Listener) (serve func(*http.Server) error, err error) {
	if m.cfg.TLS.CertFile == "" {
		return func(s *http.Server) error { return s.Serve(l) }, nil
	}
	pair, err := pki.LoadPair(m.cfg.TLS.CertFile, m.cfg.TLS.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("http.tls: %w", err)
	}
	m.pair.Store(pair)
	secure := pki.ServerConfig(pair, nil)
	if m.cfg.TLS.ClientCAFile != "" {
		if err := m.readClientAuthorities(pair); err != nil {
			return nil, err
		}
		secure.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return m.mutual.Load(), nil }
	}
	return func(s *http.Server) error {
		s.TLSConfig = secure
		return s.ServeTLS(l, "", "")
	}, nil
}

// readClientAuthorities reads whose certificates clients may show. Each reading has keys of its own for the resumption of sessions, so that
// nobody comes back by a certificate that is not accepted any more.
func (m *Module) readClientAuthorities(pair *pki.Pair) error {
	clients, err := pki.Pool(m.cfg.TLS.ClientCAFile)
	if err != nil {
		return fmt.Errorf("http.tls.client_ca_file: %w", err)
	}
	mutual := pki.ServerConfig(pair, clients)
	mutual.NextProtos = []string{"h2", "http/1.1"} // which the server adds to a configuration of its own only
	m.mutual.Store(mutual)
	return nil
}

// reloadTLS reads the files anew that the listener proves itself and its clients with.
func (m *Module) reloadTLS() error {
	pair := m.pair.Load()
	if pair == nil {
		return nil
	}
	if err := pair.Reload(); err != nil {
		return err
	}
	if m.cfg.TLS.ClientCAFile == "" {
		return nil
	}
	return m.readClientAuthorities(pair)
}
