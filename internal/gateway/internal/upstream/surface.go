package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"time"

	"github.com/novacron/novacron/internal/gateway"
	"github.com/novacron/novacron/internal/platform/hop"
	"github.com/novacron/novacron/internal/platform/httpx"
)

type surface struct{ told hop.Surface }

// maxSurface bounds what a module may tell of itself.
const maxSurface = 8 << 20

// Refresh asks the module what it serves. It tells whether that differs from what was known.
func (u *Upstream) Refresh(ctx context.Context) (changed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.cfg.URLs[0]+hop.SurfacePath, nil)
	if err != nil {
		return false, fmt.Errorf("ask module %s: %w", u.cfg.Name, err)
	}
	list, err := u.resolver.Addresses(ctx)
	if err != nil {
		return false, err
	}
	r.URL.Host = u.turn.pick(list).Host
	if err := u.deps.Signer.Stamp(r, r, u.cfg.Name); err != nil {
		return false, err
	}
	resp, err := u.client.RoundTrip(r)
	if err != nil {
		return false, fmt.Errorf("ask module %s what it serves: %w", u.cfg.Name, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxSurface))
	if err != nil {
		return false, fmt.Errorf("read what module %s serves: %w", u.cfg.Name, err)
	}
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("module %s does not tell what it serves: %s: %.200s", u.cfg.Name, resp.Status, raw)
	}
	var told hop.Surface
	if err := json.Unmarshal(raw, &told); err != nil {
		return false, fmt.Errorf("read what module %s serves: %w", u.cfg.Name, err)
	}
	if told.Module != u.cfg.Name {
		return false, fmt.Errorf("%s is module %q, not %s", u.cfg.URLs[0], told.Module, u.cfg.Name)
	}
	before := u.surface.Swap(&surface{told})
	return before == nil || !reflect.DeepEqual(before.told, told), nil
}

// Known tells whether the module has ever told what it serves.
func (u *Upstream) Known() bool { return u.surface.Load() != nil }

// Routes lists what the module serves; nothing before it was reached for the first time.
func (u *Upstream) Routes() []httpx.Route {
	if s := u.surface.Load(); s != nil {
		return s.told.Routes
	}
	return nil
}

// OpenAPI gives the module's part of the document.
func (u *Upstream) OpenAPI() ([]byte, error) {
	if s := u.surface.Load(); s != nil {
		return s.told.OpenAPI, nil
	}
	return []byte(`{}`), nil
}

// Handler sends requests on.
func (u *Upstream) Handler() http.Handler { return u }

// Ready asks whether the module can work.
func (u *Upstream) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.cfg.URLs[0]+"/ready", nil)
	if err != nil {
		return fmt.Errorf("ask module %s: %w", u.cfg.Name, err)
	}
	resp, err := u.client.RoundTrip(r)
	if err != nil {
		return gateway.ErrUpstreamAway.WithMeta("service", u.cfg.Name).Wrap(err)
	}
	drain(resp)
	if resp.StatusCode != http.StatusOK {
		return gateway.ErrUpstreamAway.WithMessage("the module %s says that it is not ready", u.cfg.Name)
	}
	return nil
}
