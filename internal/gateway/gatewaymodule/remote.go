package gatewaymodule

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/novacron/novacron/internal/gateway/internal/upstream"
	"github.com/novacron/novacron/internal/platform/hop"
	"github.com/novacron/novacron/internal/platform/pki"
)

// remotes are the modules that run in other processes, and what is done to know them.
type remotes struct {
	list []*upstream.Upstream
	pair *pki.Pair
	stop context.CancelFunc
	done sync.WaitGroup
}

// How often a module in another process is asked what it serves: soon while it has never answered, and seldom afterwards, because it
// changes with its version only.
const (
	askSoon   = time.Second
	askSeldom = 30 * time.Second
)

// newRemotes makes the upstreams of a configuration.
func (m *Module) newRemotes() error {
	if len(m.cfg.Services) == 0 {
		return nil
	}
	pair, err := pki.LoadPair(m.cfg.Internal.CertFile, m.cfg.Internal.KeyFile)
	if err != nil {
		return fmt.Errorf("internal: %w", err)
	}
	authorities, err := pki.Pool(m.cfg.Internal.ClientCAFile)
	if err != nil {
		return fmt.Errorf("internal.ca_file: %w", err)
	}
	metrics, err := upstream.NewMetrics(m.deps.Registerer)
	if err != nil {
		return err
	}
	deps := upstream.Deps{TLS: pki.ClientConfig(pair, authorities), Signer: hop.NewSigner(pair.Certificate), Log: m.deps.Log, Metrics: metrics,
		Budget: upstream.NewBudget()}
	m.remotes.pair = pair
	for _, cfg := range m.cfg.Services {
		m.remotes.list = append(m.remotes.list, upstream.New(cfg, deps))
	}
	return nil
}

// startRemotes asks the modules in other processes what they serve, and goes on asking until stopRemotes.
func (m *Module) startRemotes() {
	if len(m.remotes.list) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.remotes.stop = cancel
	for _, u := range m.remotes.list {
		m.remotes.done.Go(func() { m.follow(ctx, u) })
	}
}

func (m *Module) follow(ctx context.Context, u *upstream.Upstream) {
	reached := true
	for {
		changed, err := u.Refresh(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && reached:
			reached = false
			m.deps.Log.WarnContext(ctx, "a module in another process cannot be reached", "service", u.Name(), "url", u.URL(), "error", err)
		case err == nil && !reached:
			reached = true
			m.deps.Log.InfoContext(ctx, "a module in another process is reached", "service", u.Name(), "url", u.URL())
		}
		if changed {
			if err := m.rebuild(m.current()); err != nil {
				m.deps.Log.ErrorContext(ctx, "routes of a module in another process were not taken over", "service", u.Name(), "error", err)
			}
		}
		wait := askSeldom
		if err != nil || !u.Known() {
			wait = askSoon
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

func (m *Module) stopRemotes() {
	if m.remotes.stop != nil {
		m.remotes.stop()
		m.remotes.done.Wait()
		m.remotes.stop = nil
	}
	for _, u := range m.remotes.list {
		u.Close()
	}
}

// remoteReadiness asks the modules in other processes whether they can work.
func (m *Module) remoteReadiness(ctx context.Context) map[string]error {
	states := make(map[string]error, len(m.remotes.list))
	var mu sync.Mutex
	var asked sync.WaitGroup
	for _, u := range m.remotes.list {
		asked.Go(func() {
			err := u.Ready(ctx)
			mu.Lock()
			defer mu.Unlock()
			states[u.Name()] = err
		})
	}
	asked.Wait()
	return states
}
