package schedulermodule_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/bus/membus"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/pg/pgtest"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/schedulermodule"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Wrap(m)) }

const (
	gib      = int64(1) << 30
	patience = time.Minute
)

// rig is a module that has been started.
type rig struct {
	*schedulermodule.Module
	t        *testing.T
	bus      bus.Bus
	registry *prometheus.Registry
}

func newRig(t *testing.T, change ...func(*schedulermodule.Config)) *rig {
	t.Helper()
	cfg := schedulermodule.Default()
	cfg.DatabaseURL = pgtest.New(t).URL
	cfg.MemoryReserveBytes, cfg.StorageReserveBytes, cfg.SweepInterval = 0, 0, 100*time.Millisecond
	for _, c := range change {
		c(&cfg)
	}
	b := membus.New()
	r := &rig{t: t, bus: b, registry: prometheus.NewRegistry()}
	var err error
	r.Module, err = schedulermodule.New(cfg, schedulermodule.Deps{Bus: b, Log: slog.New(slog.DiscardHandler), Registerer: r.registry})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// register publishes a heartbeat and waits until the node is known.
func (r *rig) register(h event.NodeHeartbeat) {
	r.t.Helper()
	if err := bus.NewTopic[event.NodeHeartbeat](bus.SubjectNodeHeartbeat).Publish(r.t.Context(), r.bus, h); err != nil {
		r.t.Fatal(err)
	}
	r.eventually("node "+h.Name+" is registered", func() bool {
		_, err := r.Service().GetNode(r.t.Context(), scheduler.GetNodeRequest{NodeID: h.NodeID})
		return err == nil
	})
}

func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			r.t.Fatalf("not within %v: %s", patience, what)
		case <-tick.C:
		}
	}
}

var (
	admin    = &identity.Principal{TenantID: uuid.UUID{15: 1}, Permissions: []string{"*"}, Scope: identity.ScopePlatform}
	operator = &identity.Principal{TenantID: uuid.UUID{15: 2}, Permissions: []string{"vm:*", "quota:read", "scheduler:read"}, Scope: identity.ScopeTenant}
	nobody   = &identity.Principal{TenantID: uuid.UUID{15: 3}, Scope: identity.ScopeTenant}
)

// answer is a response with its decoded body.
type answer struct {
	Status int
	Header http.Header
	Body   map[string]any
}

// call sends a request as p, nil being anonymous. A body that is not a string is sent as JSON.
func (r *rig) call(p *identity.Principal, method, path string, body any, header ...string) answer {
	r.t.Helper()
	var sent bytes.Buffer
	switch body := body.(type) {
	case nil:
	case string:
		sent.WriteString(body)
	default:
		if err := json.NewEncoder(&sent).Encode(body); err != nil {
			r.t.Fatal(err)
		}
	}
	req := httptest.NewRequestWithContext(r.t.Context(), method, path, &sent)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	if p != nil {
		req = req.WithContext(identity.With(req.Context(), *p))
	}
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, req)
	a := answer{Status: w.Code, Header: w.Header()}
	if w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &a.Body); err != nil {
			r.t.Fatalf("%s %s answered %d %q: %v", method, path, w.Code, w.Body, err)
		}
	}
	return a
}

// expect calls and checks the status and, for a refusal, the code.
func (r *rig) expect(status int, code string, p *identity.Principal, method, path string, body any, header ...string) answer {
	r.t.Helper()
	a := r.call(p, method, path, body, header...)
	if got, _ := a.Body["code"].(string); a.Status != status || got != code {
		r.t.Errorf("%s %s: %d %q, want %d %q: %v", method, path, a.Status, got, status, code, a.Body)
	}
	return a
}
