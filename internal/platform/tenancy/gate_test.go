package tenancy_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/bus/membus"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/tenancy"
)

// things counts what requests made.
type things struct {
	mu        sync.Mutex
	of        map[uuid.UUID]int64
	forgotten []uuid.UUID
}

func (s *things) add(tenant uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of[tenant]++
}

func (s *things) TenantObjects(_ context.Context, tenant uuid.UUID) (map[string]int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[string]int64{"things": s.of[tenant]}, nil
}

func (s *things) ForgetTenant(_ context.Context, tenant uuid.UUID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgotten = append(s.forgotten, tenant)
	return nil
}

func send(t *testing.T, h http.Handler, method string, tenant uuid.UUID) int {
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(identity.With(t.Context(), identity.Principal{TenantID: tenant}), method, "/things", nil)
	h.ServeHTTP(w, r)
	return w.Code
}

// What is counted as empty stays empty: a request that was at work is waited for, and later ones are refused.
func TestClosedTenantsStayAsTheyAre(t *testing.T) {
	t.Parallel()
	b, store := membus.New(), &things{of: map[uuid.UUID]int64{}}
	defer b.Close()
	gate := tenancy.New(store)
	sub, err := gate.Serve(b, "shop")
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	red, blue := uuid.New(), uuid.New()
	begun, goOn := make(chan struct{}), make(chan struct{})
	slow := gate.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(begun)
		<-goOn
		store.add(red)
	}))
	quick := gate.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { store.add(blue) }))
	ask := func(ctx context.Context, phase string, tenant uuid.UUID) (int64, error) {
		a, err := bus.Call[event.TenantQuestion, event.TenantAnswer](ctx, b, bus.SubjectTenantObjects("shop"), event.TenantQuestion{TenantID: tenant, Phase: phase})
		return a.Objects["things"], err
	}
	var wg sync.WaitGroup
	wg.Go(func() { send(t, slow, http.MethodPost, red) })
	<-begun
	if n, err := ask(t.Context(), event.TenantAsk, red); n != 0 || err != nil {
		t.Fatalf("asked: %d, %v", n, err)
	}
	hasty, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := ask(hasty, event.TenantClose, red); err == nil {
		t.Fatal("closed while a request was at work")
	}
	if code := send(t, quick, http.MethodPost, red); code != http.StatusConflict {
		t.Errorf("a request to a closed tenant: %d", code)
	}
	if code := send(t, quick, http.MethodPost, blue); code != http.StatusOK {
		t.Errorf("a request to another tenant: %d", code)
	}
	if code := send(t, quick, http.MethodGet, red); code != http.StatusOK {
		t.Errorf("a read in a closed tenant: %d", code)
	}
	answers := make(chan int64, 1)
	wg.Go(func() {
		n, err := ask(t.Context(), event.TenantClose, red)
		if err != nil {
			t.Error(err)
		}
		answers <- n
	})
	close(goOn)
	if n := <-answers; n != 1 {
		t.Errorf("closed with %d things, but one was being made", n)
	}
	wg.Wait()
	if _, err := ask(t.Context(), event.TenantForget, red); err != nil || len(store.forgotten) != 1 || store.forgotten[0] != red {
		t.Errorf("forgot %v, %v", store.forgotten, err)
	}
	if _, err := ask(t.Context(), event.TenantOpen, red); err != nil {
		t.Error(err)
	}
	if code := send(t, quick, http.MethodPost, red); code != http.StatusOK {
		t.Errorf("a request after the tenant was opened again: %d", code)
	}
	if _, err := ask(t.Context(), "nonsense", red); !errors.Is(err, bus.ErrBadRequest) {
		t.Errorf("nonsense: %v", err)
	}
}

// Many come and go while the tenant is closed: after Close nothing is made any more.
func TestCloseAmongMany(t *testing.T) {
	t.Parallel()
	store := &things{of: map[uuid.UUID]int64{}}
	gate, red := tenancy.New(store), uuid.New()
	h := gate.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { store.add(red) }))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for send(t, h, http.MethodPut, red) == http.StatusOK {
			}
		})
	}
	if err := gate.Close(t.Context(), red); err != nil {
		t.Fatal(err)
	}
	before, _ := store.TenantObjects(t.Context(), red)
	wg.Wait()
	if after, _ := store.TenantObjects(t.Context(), red); after["things"] != before["things"] {
		t.Errorf("%d things when it was closed, %d later", before["things"], after["things"])
	}
}
