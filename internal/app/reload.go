package app

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/novacron/novacron/internal/config"
)

// reloadOn takes over what can be changed without a restart, each time the process is told to, and keeps the listener's certificate from
// running out, until ctx ends.
func (b *builder) reloadOn(ctx context.Context, hangup <-chan os.Signal) {
	renewal := time.NewTicker(renewalCheck)
	defer renewal.Stop()
	for {
		select {
		case <-renewal.C:
			if err := ensureCertificate(b.started); err != nil {
				b.log.WarnContext(ctx, "certificate of the API could not be renewed", "error", err)
			}
		case <-ctx.Done():
			return
		case <-hangup:
			b.reload(ctx)
		}
	}
}

// reload reads the configuration anew. A configuration with a mistake changes nothing.
func (b *builder) reload(ctx context.Context) {
	if b.opts.Reload == nil || b.gateway == nil {
		b.log.InfoContext(ctx, "this process has nothing that can be reloaded")
		return
	}
	cfg, err := b.opts.Reload()
	if err == nil {
		err = b.gateway.Reload(cfg.GatewayModule())
	}
	if err != nil {
		b.log.ErrorContext(ctx, "configuration was not reloaded; the old one stays in force", "error", err)
		return
	}
	later := config.Differences(b.started, cfg)
	kept := later[:0]
	for _, path := range later {
		if !strings.HasPrefix(path, "gateway.") && !slices.Contains([]string{"http.cors_origins", "http.trusted_proxies", "http.tls.hsts"}, path) {
			kept = append(kept, path)
		}
	}
	b.log.InfoContext(ctx, "configuration reloaded", "needs_restart", kept)
}
