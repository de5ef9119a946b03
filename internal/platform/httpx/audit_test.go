package httpx_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/audit"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
)

// auditStore keeps everything in memory.
type auditStore struct {
	mu      sync.Mutex
	intents map[uuid.UUID]event.Audit
	records []event.Audit
	fail    error
}

func (s *auditStore) do(f func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail == nil {
		f()
	}
	return s.fail
}

func (s *auditStore) Begin(_ context.Context, r event.Audit) error {
	return s.do(func() { s.intents[r.ID] = r })
}

func (s *auditStore) End(_ context.Context, r event.Audit) error {
	return s.do(func() { delete(s.intents, r.ID); s.records = append(s.records, r) })
}

func (s *auditStore) Drop(_ context.Context, id uuid.UUID) error {
	return s.do(func() { delete(s.intents, id) })
}

func (s *auditStore) Write(_ context.Context, list []event.Audit) error {
	return s.do(func() { s.records = append(s.records, list...) })
}
func (s *auditStore) Alive(context.Context, []uuid.UUID) error { return nil }
func (s *auditStore) Sweep(context.Context) (int, error)       { return 0, nil }

// thingBody is a body with a secret, and one field whose value is to be recorded.
type thingBody struct {
	Name     string  `json:"name"`
	Password string  `json:"password,omitempty"`
	Role     *string `json:"role,omitempty" audit:"value"`
}

type thingInput struct{ Body thingBody }

type thingOutput struct {
	Body struct {
		ID uuid.UUID `json:"id"`
	}
}

var errThing = errs.New(errs.Conflict, "thing.exists", "the thing exists")

func auditedAPI(t *testing.T) (*auditStore, *audit.Recorder, http.Handler, uuid.UUID) {
	t.Helper()
	rec, err := audit.New(audit.Config{Module: "things", Node: "n1", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	made := uuid.New()
	api := httpx.New("things")
	api.Audit(rec)
	httpx.Handle(api, httpx.Op{ID: "thing-create", Method: "POST", Path: "/things", Permission: "thing:create", Summary: "x", Status: 201},
		func(ctx context.Context, in *thingInput) (*thingOutput, error) {
			switch in.Body.Name {
			case "taken":
				return nil, errThing
			case "panics":
				panic("oh")
			}
			out := &thingOutput{}
			out.Body.ID = made
			return out, nil
		})
	httpx.Handle(api, httpx.Op{ID: "thing-list", Method: "GET", Path: "/things", Permission: "thing:read", Summary: "x"},
		func(context.Context, *struct{}) (*struct{}, error) { return &struct{}{}, nil })
	api.Raw(httpx.Op{ID: "thing-upload", Method: "PUT", Path: "/things/{id}/parts/{part}", Permission: "thing:update", Summary: "x"}, httpx.RawDoc{},
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })
	api.Raw(httpx.Op{ID: "thing-watch", Method: "GET", Path: "/things/{id}/stream", Permission: "thing:read", Summary: "x", Audited: true}, httpx.RawDoc{},
		func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
	st := &auditStore{intents: map[uuid.UUID]event.Audit{}}
	return st, rec, api.Handler(), made
}

func as(p identity.Principal, method, path, body string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return r.WithContext(identity.With(r.Context(), p))
}

func (s *auditStore) await(t *testing.T, n int) []event.Audit {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		list := append([]event.Audit{}, s.records...)
		s.mu.Unlock()
		if len(list) >= n {
			return list
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d records, want %d: %+v", len(list), n, list)
		}
		<-tick.C
	}
}

func TestCallsLeaveRecords(t *testing.T) {
	st, rec, h, made := auditedAPI(t)
	rec.Start(st)
	defer rec.Stop()
	ada := identity.Principal{UserID: uuid.New(), Username: "ada", TenantID: uuid.New(), HomeID: uuid.New(), SessionID: uuid.New(), Permissions: []string{"thing:*"}}
	eve := identity.Principal{UserID: uuid.New(), Username: "eve", SessionID: uuid.New()}
	want := 0
	for _, c := range []struct {
		name           string
		p              identity.Principal
		method, path   string
		body           string
		action, result string
		status         int
		code, target   string
		details        string // key=value
	}{
		{"created", ada, "POST", "/things", `{"name":"a","password":"hunter2","role":"admin"}`, "thing.create", "success", 201, "", made.String(), "fields=name,password,role"},
		{"value of a tagged field", ada, "POST", "/things", `{"name":"a","role":"admin"}`, "thing.create", "success", 201, "", made.String(), "role=admin"},
		{"handler fails", ada, "POST", "/things", `{"name":"taken"}`, "thing.create", "failed", 409, "thing.exists", "", "fields=name"},
		{"not valid", ada, "POST", "/things", `{`, "thing.create", "failed", 400, "request.malformed", "", ""},
		{"refused", eve, "POST", "/things", `{"name":"a"}`, "thing.create", "refused", 403, "auth.forbidden", "", "missing_permission=thing:create"},
		{"refused read", eve, "GET", "/things", ``, "thing.list", "refused", 403, "auth.forbidden", "", "missing_permission=thing:read"},
		{"raw", ada, "PUT", "/things/7/parts/8", ``, "thing.upload", "success", 204, "", "7", "part=8"},
	} {
		w := httptest.NewRecorder()
		r := as(c.p, c.method, c.path, c.body)
		h.ServeHTTP(w, r.WithContext(httpx.WithRequest(r.Context(), "req-1", c.path)))
		if w.Code != c.status {
			t.Fatalf("%s: %d %s", c.name, w.Code, w.Body)
		}
		want++
		got := st.await(t, want)[want-1]
		key, value, _ := strings.Cut(c.details, "=")
		if got.Action != c.action || got.Result != c.result || got.Status != c.status || got.Code != c.code || got.TargetID != c.target ||
			got.Details[key] != value || got.Username != c.p.Username || got.Module != "things" || got.Node != "n1" || got.RequestID != "req-1" {
			t.Errorf("%s: %+v", c.name, got)
		}
		for _, v := range got.Details {
			if strings.Contains(v, "hunter2") {
				t.Errorf("%s: a secret is recorded", c.name)
			}
		}
	}
	// What only reads, and may, leaves none.
	h.ServeHTTP(httptest.NewRecorder(), as(ada, "GET", "/things", ""))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		h.ServeHTTP(httptest.NewRecorder(), as(ada, "POST", "/things", `{"name":"panics"}`))
	}()
	list := st.await(t, want+1)
	if last := list[len(list)-1]; len(list) != want+1 || last.Result != event.AuditError || last.Status != 500 {
		t.Errorf("after the panic: %+v", last)
	}
	if len(st.intents) != 0 {
		t.Errorf("intents stay: %v", st.intents)
	}
}

// A stream is recorded when it opens, not when it ends.
func TestStreamsAreRecordedAtOnce(t *testing.T) {
	st, rec, h, _ := auditedAPI(t)
	rec.Start(st)
	defer rec.Stop()
	ada := identity.Principal{UserID: uuid.New(), Username: "ada", SessionID: uuid.New(), Permissions: []string{"thing:*"}}
	r := as(ada, "GET", "/things/7/stream", "")
	ctx, cancel := context.WithCancel(r.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
	}()
	if got := st.await(t, 1)[0]; got.Action != "thing.watch" || got.Status != 200 || got.TargetID != "7" {
		t.Errorf("got %+v", got)
	}
	cancel()
	<-done
	if n := len(st.await(t, 1)); n != 1 {
		t.Errorf("%d records", n)
	}
}

// What cannot be recorded is not carried out.
func TestNoRecordNoCall(t *testing.T) {
	st, rec, h, _ := auditedAPI(t)
	ada := identity.Principal{UserID: uuid.New(), SessionID: uuid.New(), Permissions: []string{"thing:*"}}
	try := func(when string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, as(ada, "POST", "/things", `{"name":"panics"}`)) // it would panic
		if w.Code != 503 || !strings.Contains(w.Body.String(), audit.ErrUnavailable.Code) {
			t.Errorf("%s: %d %s", when, w.Code, w.Body)
		}
	}
	try("before the start")
	rec.Start(st)
	st.mu.Lock()
	st.fail = errors.New("no database")
	st.mu.Unlock()
	try("without a database")
	st.mu.Lock()
	st.fail = nil
	st.mu.Unlock()
	rec.Stop()
	try("after the end")
}
