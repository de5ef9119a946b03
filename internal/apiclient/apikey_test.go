package apiclient_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/novacron/novacron/internal/apiclient"
)

// A key goes out in its own header, and never to another server than the one it is for.
func TestAPIKeyStaysAtItsServer(t *testing.T) {
	t.Parallel()
	const key = "nck_abcdefghijkl_secret"
	var elsewhere *httptest.Server
	reached := make(chan http.Header, 1)
	elsewhere = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached <- r.Header.Clone()
		_, _ = w.Write([]byte(`{"id":"00000000-0000-7000-8000-000000000001"}`))
	}))
	defer elsewhere.Close()
	home := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-API-Key") != key || r.Header.Get("Authorization") != "" {
			t.Errorf("%s has headers %v", r.URL.Path, r.Header)
		}
		switch r.URL.Path {
		case "/api/v1/me":
			http.Redirect(w, r, "/moved", http.StatusTemporaryRedirect)
		case "/moved":
			http.Redirect(w, r, elsewhere.URL+"/stolen", http.StatusTemporaryRedirect)
		}
	}))
	defer home.Close()
	c, err := apiclient.New(apiclient.Config{BaseURL: home.URL, Tokens: apiclient.KeyTokens(key), HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Me(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h := <-reached; h.Get("X-API-Key") != "" {
		t.Errorf("the key went elsewhere: %v", h)
	}
}
