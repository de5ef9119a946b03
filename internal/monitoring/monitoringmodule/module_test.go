package monitoringmodule

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/bus/membus"
	"github.com/novacron/novacron/internal/monitoring"
	"github.com/novacron/novacron/internal/platform/identity"
)

func TestHealthFollowsHeartbeats(t *testing.T) {
	b := membus.New()
	defer b.Close()
	m, err := New(Default(), Deps{Bus: b, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if m.Ready(t.Context()) == nil {
		t.Error("ready before it was started")
	}
	told := make(chan event.SystemHealth, 16)
	if _, err := bus.NewTopic[event.SystemHealth](bus.SubjectSystemHealth).Subscribe(b, bus.SubscribeOptions{}, func(_ context.Context, h event.SystemHealth) { told <- h }); err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer m.Stop(t.Context())
	now := time.Now().UTC()
	well, ill, gone := uuid.New(), uuid.New(), uuid.New()
	topic := bus.NewTopic[event.NodeHeartbeat](bus.SubjectNodeHeartbeat)
	for _, h := range []event.NodeHeartbeat{
		{NodeID: well, Name: "a", Epoch: 2, Timestamp: now, Health: "healthy"},
		{NodeID: well, Name: "a", Epoch: 1, Timestamp: now, Health: "degraded"}, // of a role that was replaced
		{NodeID: ill, Name: "b", Epoch: 1, Timestamp: now, Health: "degraded", Reason: "libvirt is away"},
		{NodeID: gone, Name: "c", Epoch: 1, Timestamp: now.Add(-time.Hour), Health: "healthy"},
	} {
		if err := topic.Publish(t.Context(), b, h); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{well.String(): "healthy", ill.String(): "degraded", gone.String(): "silent"}
	deadline := time.After(20 * time.Second)
	for done := false; !done; {
		select {
		case h := <-told:
			if len(h.Nodes) < len(want) {
				continue
			}
			done = true
			if h.Status != "degraded" {
				t.Errorf("published status %q, want degraded", h.Status)
			}
			for id, status := range want {
				if h.Nodes[id] != status {
					t.Errorf("published node %s as %q, want %q", id, h.Nodes[id], status)
				}
			}
		case <-deadline:
			t.Fatal("system.health did not tell of the nodes")
		}
	}

	r := httptest.NewRequest(http.MethodGet, "/api/v1/monitoring/health", nil)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusUnauthorized {
		t.Errorf("anonymous caller got %d, want 401", w.Code)
	}
	w = httptest.NewRecorder()
	m.Handler().ServeHTTP(w, r.WithContext(identity.With(t.Context(), identity.Principal{Permissions: []string{"monitoring:read"}})))
	var health monitoring.Health
	if err := json.Unmarshal(w.Body.Bytes(), &health); err != nil || w.Code != http.StatusOK {
		t.Fatalf("got %d %s: %v", w.Code, w.Body, err)
	}
	if len(health.Nodes) != 3 || health.Nodes[0].Name != "a" || health.Nodes[2].Status != monitoring.StatusSilent {
		t.Errorf("got %+v", health)
	}
}
