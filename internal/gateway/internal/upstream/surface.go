package upstream

import (
	"context"
	"encoding/json"
	"errors"
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
	var told hop.Surface
	if err := u.any(ctx, 10*time.Second, func(ctx context.Context, p *process) (err error) {
		told, err = u.ask(ctx, p)
		return err
	}); err != nil {
		return false, err
	}
	before := u.surface.Swap(&surface{told})
	return before == nil || !reflect.DeepEqual(before.told, told), nil
}

// any asks one process after the other until one answers as it should, each for so long at most.
func (u *Upstream) any(ctx context.Context, patience time.Duration, ask func(context.Context, *process) error) error {
	list, err := u.processes.list(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, p := range list {
		ctx, cancel := context.WithTimeout(ctx, patience)
		err := ask(ctx, p)
		cancel()
		if err == nil {
			return nil
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// ask asks one process what it serves.
func (u *Upstream) ask(ctx context.Context, p *process) (told hop.Surface, err error) {
	at := p.url.JoinPath(hop.SurfacePath).String()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return told, fmt.Errorf("ask module %s: %w", u.cfg.Name, err)
	}
	if err := u.deps.Signer.Stamp(r, r, u.cfg.Name); err != nil {
		return told, err
	}
	resp, err := u.client.RoundTrip(r)
	if err != nil {
		return told, fmt.Errorf("ask module %s what it serves: %w", u.cfg.Name, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxSurface))
	if err != nil {
		return told, fmt.Errorf("read what module %s serves: %w", u.cfg.Name, err)
	}
	if resp.StatusCode != http.StatusOK {
		return told, fmt.Errorf("module %s does not tell what it serves: %s: %.200s", u.cfg.Name, resp.Status, raw)
	}
	if err := json.Unmarshal(raw, &told); err != nil {
		return told, fmt.Errorf("read what module %s serves: %w", u.cfg.Name, err)
	}
	if told.Module != u.cfg.Name {
		return told, fmt.Errorf("%s is module %q, not %s", p.url, told.Module, u.cfg.Name)
	}
	return told, nil
}

// Inherit takes over what another Upstream knows of the same module, until it is asked itself.
func (u *Upstream) Inherit(from *Upstream) { u.surface.Store(from.surface.Load()) }

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

// Ready asks whether the module can work: whether one of its processes can.
func (u *Upstream) Ready(ctx context.Context) error {
	return u.any(ctx, 2*time.Second, func(ctx context.Context, p *process) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url.JoinPath("/ready").String(), nil)
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
	})
}
