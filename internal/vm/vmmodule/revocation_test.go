package vmmodule

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/errs"
)

// A console ends when the session of who opened it does, and no other console with it; tickets that were not used yet are worth nothing.
func TestRevocationEndsConsoles(t *testing.T) {
	w := newWorld(t)
	made := w.create("web-1", w.image().ID)
	path := "/api/v1/vms/" + made.TargetID.String() + "/console"
	server := httptest.NewServer(w.vm.Handler())
	defer server.Close()
	me, other := w.tenant, w.tenant
	me.UserID, me.SessionID = uuid.New(), uuid.New()
	other.UserID, other.SessionID = uuid.New(), uuid.New()
	tell := func(e event.Auth) {
		t.Helper()
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.bus.Publish(t.Context(), bus.Message{Subject: bus.SubjectAuthEvents, Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	open := func() (ended <-chan struct{}, closeIt func()) {
		t.Helper()
		ticket := decode[struct{ Ticket, URL string }](t, w.doAs(me, http.MethodPost, path, nil), http.StatusCreated)
		c, resp, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(server.URL, "http")+ticket.URL, nil)
		if err != nil {
			t.Fatalf("connect: %v %v", resp, err)
		}
		done := make(chan struct{})
		go func() { // ends with the connection
			defer close(done)
			for {
				if _, _, err := c.Read(ctx); err != nil {
					return
				}
			}
		}()
		return done, func() {
			_ = c.CloseNow()
			<-done
		}
	}
	for name, e := range map[string]event.Auth{
		"session":  {Type: event.AuthSessionRevoked, TenantID: me.TenantID, UserID: me.UserID, SessionID: me.SessionID},
		"user":     {Type: event.AuthUserUpdated, TenantID: me.TenantID, UserID: me.UserID},
		"tenant":   {Type: event.AuthTenantUpdated, TenantID: me.TenantID},
		"role":     {Type: event.AuthRoleUpdated, TenantID: me.TenantID, Role: "user"},
		"bindings": {Type: event.AuthBindingDeleted, PrincipalKind: "user", PrincipalID: me.UserID},
	} {
		ended, closeIt := open()
		for _, harmless := range []event.Auth{
			{Type: event.AuthSessionRevoked, TenantID: me.TenantID, UserID: me.UserID, SessionID: uuid.New()},
			{Type: event.AuthUserUpdated, TenantID: me.TenantID, UserID: other.UserID},
			{Type: event.AuthUserCreated, TenantID: me.TenantID, UserID: uuid.New()},
			{Type: event.AuthTenantUpdated, TenantID: uuid.New()},
		} {
			tell(harmless)
		}
		select {
		case <-ended:
			t.Errorf("%s: ended before anything concerned it", name)
		case <-time.After(100 * time.Millisecond):
		}
		unused := decode[struct{ Ticket, URL string }](t, w.doAs(me, http.MethodPost, path, nil), http.StatusCreated)
		tell(e)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Errorf("%s: the console goes on", name)
		}
		closeIt()
		if p := decode[errs.Problem](t, w.doAs(me, http.MethodGet, unused.URL, nil), http.StatusNotFound); p.Code != "stream.unknown_ticket" {
			t.Errorf("%s: the ticket counts: %s", name, p.Code)
		}
	}
}
