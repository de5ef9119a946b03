package apiclient_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/platform/errs"
)

// sessions is a server's part of login and refresh: a refresh token works once, and its second use ends everything.
type sessions struct {
	mu      sync.Mutex
	access  string
	refresh string
	n       int
	ended   bool
	asked   int
}

var errExpired = errs.New(errs.Unauthenticated, "auth.token_expired", "the token has expired")

func (s *sessions) handler() http.Handler {
	mux := http.NewServeMux()
	give := func(w http.ResponseWriter) {
		s.n++
		s.access, s.refresh = fmt.Sprint("a", s.n), fmt.Sprint("r", s.n)
		fmt.Fprintf(w, `{"access_token":%q,"refresh_token":%q,"token_type":"Bearer","expires_in":900}`, s.access, s.refresh)
	}
	mux.HandleFunc("POST /auth/login", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		var body struct{ Username, Password string }
		_ = json.NewDecoder(r.Body).Decode(&body)
		if body.Username != "ada" || body.Password != "secret" || r.Header.Get("Authorization") != "" {
			problem(w, errs.New(errs.Unauthenticated, "auth.invalid_credentials", "wrong"))
			return
		}
		give(w)
	})
	mux.HandleFunc("POST /auth/refresh", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		var body map[string]string
		_ = json.NewDecoder(r.Body).Decode(&body)
		if s.ended || body["refresh_token"] != s.refresh {
			s.ended = true
			problem(w, errs.New(errs.Unauthenticated, "auth.session_revoked", "the session has ended"))
			return
		}
		give(w)
	})
	mux.HandleFunc("POST /auth/logout", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked++
		if s.ended || r.Header.Get("Authorization") != "Bearer "+s.access {
			problem(w, errExpired)
			return
		}
		fmt.Fprint(w, `{}`)
	})
	return mux
}

func TestLoginAndLogout(t *testing.T) {
	s := &sessions{}
	c, tokens := serve(t, s.handler())
	set(t, tokens, apiclient.Tokens{})

	var e *apiclient.Error
	if _, err := c.Me(t.Context()); !errors.As(err, &e) || e.Code != apiclient.CodeNotLoggedIn || e.Status != 401 {
		t.Errorf("before the login: %v", err)
	}
	if err := c.Login(t.Context(), "ada", "wrong"); !errors.As(err, &e) || e.Code != "auth.invalid_credentials" {
		t.Errorf("wrong password: %v", err)
	}
	if err := c.Login(t.Context(), "ada", "secret"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Me(t.Context()); err != nil {
		t.Error(err)
	}
	got, _ := tokens.Load(t.Context())
	if left := time.Until(got.ExpiresAt); got.Username != "ada" || left < 10*time.Minute || left > 15*time.Minute {
		t.Errorf("kept %+v", got)
	}
	if err := c.Logout(t.Context()); err != nil {
		t.Error(err)
	}
	if got, _ := tokens.Load(t.Context()); got != (apiclient.Tokens{}) {
		t.Errorf("after the logout %+v is left", got)
	}
}

func TestTokenIsRenewedWhenItHasExpired(t *testing.T) {
	s := &sessions{access: "a0", refresh: "r0"}
	c, tokens := serve(t, s.handler())
	set(t, tokens, apiclient.Tokens{Access: "old", Refresh: "r0", Username: "ada", ExpiresAt: time.Now().Add(10 * time.Second)})
	if _, err := c.Me(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, _ := tokens.Load(t.Context()); got.Access != "a1" || got.Refresh != "r1" || got.Username != "ada" || s.asked != 1 {
		t.Errorf("kept %+v after %d requests", got, s.asked)
	}
}

// TestTokenIsRenewedWhenTheServerSaysSo: the server's clock, or a restart with new keys, may end a token earlier than this machine expects.
func TestTokenIsRenewedWhenTheServerSaysSo(t *testing.T) {
	s := &sessions{access: "a0", refresh: "r0"}
	c, tokens := serve(t, s.handler())
	set(t, tokens, apiclient.Tokens{Access: "stale", Refresh: "r0", ExpiresAt: time.Now().Add(time.Hour)})
	if _, err := c.Me(t.Context()); err != nil || s.asked != 2 {
		t.Errorf("%v after %d requests", err, s.asked)
	}
}

func TestManyCallsRenewOnce(t *testing.T) {
	s := &sessions{access: "a0", refresh: "r0"}
	c, tokens := serve(t, s.handler())
	set(t, tokens, apiclient.Tokens{Access: "old", Refresh: "r0"})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := c.GetVM(t.Context(), uuid.New()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if s.n != 1 || s.ended {
		t.Errorf("%d renewals, ended %v", s.n, s.ended)
	}
}

func TestEndedSession(t *testing.T) {
	s := &sessions{ended: true}
	c, tokens := serve(t, s.handler())
	set(t, tokens, apiclient.Tokens{Access: "old", Refresh: "r0"})
	var e *apiclient.Error
	if _, err := c.Me(t.Context()); !errors.As(err, &e) || e.Code != "auth.session_revoked" {
		t.Errorf("got %v", err)
	}
}
