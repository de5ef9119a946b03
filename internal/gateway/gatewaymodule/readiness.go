package gatewaymodule

import (
	"context"
	"errors"
	"sync"

	"github.com/novacron/novacron/internal/gateway"
	"github.com/novacron/novacron/internal/platform/errs"
)

// readiness remembers what was last said, so that a change is logged once, with the cause that the public answer leaves out.
type readiness struct {
	mu   sync.Mutex // guards last
	last map[string]bool
}

// readyNow asks all modules.
func (m *Module) readyNow(ctx context.Context) gateway.Readiness {
	var states map[string]error
	if m.deps.Readiness != nil {
		states = m.deps.Readiness(ctx)
	} else {
		states = map[string]error{m.Name(): m.Ready(ctx)}
	}
	for name, err := range m.remoteReadiness(ctx) {
		if states == nil {
			states = map[string]error{}
		}
		states[name] = err
	}
	answer := gateway.Readiness{Status: gateway.StatusReady, Modules: make(map[string]gateway.ModuleReadiness, len(states))}
	for name, err := range states {
		answer.Modules[name] = gateway.ModuleReadiness{Ready: err == nil, Error: publicText(err)}
		if err != nil {
			answer.Status = gateway.StatusNotReady
		}
	}
	if limits := m.live.Load().state.Limits; limits != nil && limits.Degraded() {
		own, ok := answer.Modules[m.Name()]
		own.Ready, own.Degraded = own.Ready || !ok, "shared rate limits cannot be reached: this gateway counts for itself"
		answer.Modules[m.Name()] = own
	}
	switch {
	case m.draining.Load():
		answer.Status = gateway.StatusDraining
	case states[m.Name()] != nil: // it starts last, so the whole process is not up yet
		answer.Status = gateway.StatusStarting
	}
	m.logChanges(ctx, states)
	return answer
}

func (m *Module) logChanges(ctx context.Context, states map[string]error) {
	if ctx.Err() != nil { // the question was given up, so its answers mean nothing
		return
	}
	m.ready.mu.Lock()
	defer m.ready.mu.Unlock()
	before := m.ready.last
	m.ready.last = make(map[string]bool, len(states))
	for name, err := range states {
		m.ready.last[name] = err == nil
		was, known := before[name]
		switch {
		case err != nil && (was || !known):
			m.deps.Log.WarnContext(ctx, "a module is not ready", "of", name, "error", err)
		case err == nil && known && !was:
			m.deps.Log.InfoContext(ctx, "a module is ready again", "of", name)
		}
	}
}

// publicText gives what anybody may read of an error.
func publicText(err error) string {
	if err == nil {
		return ""
	}
	var e *errs.Error
	if errors.As(err, &e) {
		return e.Code + ": " + e.Message
	}
	return "not ready; the cause is in the log of the server"
}
