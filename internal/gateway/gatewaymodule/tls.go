package gatewaymodule

import (
	"crypto/x509"
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
	var clients *x509.CertPool
	if m.cfg.TLS.ClientCAFile != "" {
		if clients, err = pki.Pool(m.cfg.TLS.ClientCAFile); err != nil {
			return nil, fmt.Errorf("http.tls.client_ca_file: %w", err)
		}
	}
	m.pair.Store(pair)
	return func(s *http.Server) error {
		s.TLSConfig = pki.ServerConfig(pair, clients)
		return s.ServeTLS(l, "", "")
	}, nil
}
