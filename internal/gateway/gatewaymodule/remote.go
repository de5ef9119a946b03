package gatewaymodule

import (
	"context"
	"crypto/tls"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/novacron/novacron/internal/gateway/internal/upstream"
	"github.com/novacron/novacron/internal/platform/hop"
	"github.com/novacron/novacron/internal/platform/pki"
)

// remotes are the modules that run in other processes, and what is done to know them.
type remotes struct {
	deps *upstream.Deps // nil until the first service is configured

	mu      sync.Mutex // guards what follows
	list    []*remote
	running bool
}

// remote is one of them, and the goroutine that asks it what it serves.
type remote struct {
	*upstream.Upstream
	cfg  Service
	stop context.CancelFunc // nil: it does not run; guarded by the lock of remotes, as done is
	done chan struct{}
}

// How often a module in another process is asked what it serves: soon while it has never answered, and seldom afterwards, because it
// changes with its version only.
const (
	askSoon   = time.Second
	askSeldom = 30 * time.Second
)

// upstreamDeps makes what all upstreams share, once.
func (m *Module) upstreamDeps(cfg Config) (upstream.Deps, error) {
	if m.remotes.deps != nil {
		return *m.remotes.deps, nil
	}
	pair, err := pki.LoadPair(cfg.Internal.CertFile, cfg.Internal.KeyFile)
	if err != nil {
		return upstream.Deps{}, fmt.Errorf("internal: %w", err)
	}
	authorities, err := pki.LoadAuthorities(cfg.Internal.ClientCAFile)
	if err != nil {
		return upstream.Deps{}, fmt.Errorf("internal.ca_file: %w", err)
	}
	metrics, err := upstream.NewMetrics(m.deps.Registerer)
	if err != nil {
		return upstream.Deps{}, err
	}
	m.remotes.deps = &upstream.Deps{TLS: func() *tls.Config { return pki.ClientConfig(pair, authorities.Pool()) }, Signer: hop.NewSigner(pair.Certificate), Log: m.deps.Log, Metrics: metrics,
		Budget: upstream.NewBudget()}
	return *m.remotes.deps, nil
}

// remotesOf gives the modules of a configuration. One whose configuration is as it was stays what it is, with what is known of it; one that is
// configured anew goes on with the routes that it had. The caller holds changing.
func (m *Module) remotesOf(cfg Config) ([]*remote, error) {
	if len(cfg.Services) == 0 {
		return nil, nil
	}
	deps, err := m.upstreamDeps(cfg)
	if err != nil {
		return nil, err
	}
	before := m.remotes.now()
	var list []*remote
	for _, svc := range cfg.Services {
		known := slices.IndexFunc(before, func(r *remote) bool { return r.cfg.Name == svc.Name })
		if known >= 0 && reflect.DeepEqual(before[known].cfg, svc) {
			list = append(list, before[known])
			continue
		}
		r := &remote{Upstream: upstream.New(svc, deps), cfg: svc}
		if known >= 0 {
			r.Inherit(before[known].Upstream)
		}
		list = append(list, r)
	}
	return list, nil
}

// now lists them.
func (s *remotes) now() []*remote {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list
}

func (s *remotes) set(list []*remote) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = list
}

// startRemotes asks the modules in other processes what they serve, and goes on asking until stopRemotes, or until they are configured
// otherwise.
func (m *Module) startRemotes() {
	m.remotes.mu.Lock()
	defer m.remotes.mu.Unlock()
	m.remotes.running = true
	m.followAll()
}

// followAll starts what does not run yet. The caller holds the lock.
func (m *Module) followAll() {
	for _, r := range m.remotes.list {
		if r.stop != nil {
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		r.stop, r.done = cancel, done
		go func() { // ends with halt
			defer close(done)
			m.follow(ctx, r.Upstream)
		}()
	}
}

// halt ends the goroutine of a remote, and waits for it. Requests that are with the module go on.
func (s *remotes) halt(r *remote) {
	s.mu.Lock()
	stop, done := r.stop, r.done
	r.stop = nil
	s.mu.Unlock()
	if stop != nil {
		stop()
		<-done
	}
	r.Close()
}

// changeRemotes follows the remotes of now, and no longer those of before that are gone.
func (m *Module) changeRemotes(before []*remote) {
	m.remotes.mu.Lock()
	now := m.remotes.list
	if m.remotes.running {
		m.followAll()
	}
	m.remotes.mu.Unlock()
	for _, r := range before {
		if !slices.Contains(now, r) {
			m.remotes.halt(r)
		}
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
			if err := m.refresh(); err != nil {
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
	m.remotes.mu.Lock()
	m.remotes.running = false
	list := m.remotes.list
	m.remotes.mu.Unlock()
	for _, r := range list {
		m.remotes.halt(r)
	}
}

// remoteReadiness asks the modules in other processes whether they can work.
func (m *Module) remoteReadiness(ctx context.Context) map[string]error {
	list := m.remotes.now()
	states := make(map[string]error, len(list))
	var mu sync.Mutex
	var asked sync.WaitGroup
	for _, u := range list {
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
