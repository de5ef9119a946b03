package app

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/novacron/novacron/internal/config"
	"github.com/novacron/novacron/internal/platform/pki"
)

// renewalCheck is how often the certificate that we made ourselves is looked at.
const renewalCheck = 12 * time.Hour

// ensureCertificate makes the listener's certificate where the configuration leaves it to us. The gateway notices a new one by itself.
func ensureCertificate(cfg config.Config) error {
	if !cfg.HTTP.TLS.Auto || !cfg.Has("gateway") {
		return nil
	}
	ca, err := pki.OpenOrInit(filepath.Join(cfg.DataDir, "pki"), "NovaCron "+cfg.Node.Name)
	if err != nil {
		return err
	}
	hosts := append([]string{"localhost", "127.0.0.1", "::1", cfg.Node.Name}, cfg.HTTP.TLS.Names...)
	if host, _, err := net.SplitHostPort(cfg.HTTP.Listen); err == nil && host != "" {
		if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
			hosts = append(hosts, host)
		}
	}
	slices.Sort(hosts)
	if _, _, err := ca.Ensure(filepath.Dir(cfg.HTTP.TLS.CertFile), pki.Request{Name: "gateway", Hosts: slices.Compact(hosts)}); err != nil {
		return fmt.Errorf("make certificate of the API (http.tls.auto): %w", err)
	}
	return nil
}
