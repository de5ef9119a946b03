package idempotent

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/identity"
)

// clocked counts renewals; the real store has no clock to turn.
type clocked struct {
	renewed  int
	finished bool
}

func (c *clocked) Begin(context.Context, ID, []byte) (Result, error) {
	return Result{Lock: uuid.New()}, nil
}
func (c *clocked) Renew(context.Context, ID, uuid.UUID) error          { c.renewed++; return nil }
func (c *clocked) Finish(context.Context, ID, uuid.UUID, Answer) error { c.finished = true; return nil }
func (c *clocked) Abandon(context.Context, ID, uuid.UUID) error        { return nil }

func TestSlowHandlerKeepsItsLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &clocked{}
		h := Middleware(store, nil)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			<-time.After(4*RenewEvery + time.Second)
		}))
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.Header.Set(HeaderKey, "k")
		ctx, leave := context.WithCancel(identity.With(r.Context(), identity.Principal{UserID: uuid.New()}))
		leave() // the client has left; the handler goes on
		h.ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
		if store.renewed != 4 || !store.finished {
			t.Errorf("renewed %d times, finished: %v", store.renewed, store.finished)
		}
	})
}
