package gatewaymodule_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/novacron/novacron/internal/gateway/gatewaymodule"
	"github.com/novacron/novacron/internal/platform/logx"
)

// Each request has its line when the log is closed, whole, and without what a client put where no secret belongs.
func TestAccessLogIsWholeAndHoldsNoSecrets(t *testing.T) {
	var out logBuffer
	held := logx.Hold(&out, time.Hour)
	d := open(t, func(_ *gatewaymodule.Config, deps *gatewaymodule.Deps) {
		log, _, err := logx.New(logx.Options{Writer: held, Format: logx.FormatJSON})
		if err != nil {
			t.Fatal(err)
		}
		deps.Log = log
	})
	const secret, token = "hunter2hunter2hunter2", "eyJhbGciOiJSUzI1NiJ9.aHVudGVy.aHVudGVy"
	const requests = 50
	for range requests {
		d.do(t, "GET", "/api/v1/whoami?password="+secret, d.admin, nil, "User-Agent", "curl bearer "+secret)
		d.do(t, "GET", "/api/v1/things/"+token, d.admin, nil, "X-Request-Id", token)
	}
	if err := d.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if strings.Contains(text, secret) || strings.Contains(text, token) {
		t.Errorf("a secret is in the log: %s", text)
	}
	routes := map[string]int{}
	for line := range strings.Lines(text) {
		var l struct{ Msg, Route, Remote, Service string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if l.Msg == "request" && l.Remote == "127.0.0.1" && l.Service == "things" {
			routes[l.Route]++
		}
	}
	if routes["/api/v1/whoami"] != requests || routes["/api/v1/things/{id}"] != requests {
		t.Errorf("lines for routes: %v", routes)
	}
}

// The lists of headers that all answers share stay as they are whatever a handler does to its own.
func TestAHandlersHeadersAreItsOwn(t *testing.T) {
	d := open(t, nil)
	for range 2 {
		a := d.do(t, "GET", "/api/v1/adds", d.admin, nil)
		if got := a.header.Values("Cache-Control"); !slices.Equal(got, []string{"no-store", "no-transform"}) {
			t.Errorf("Cache-Control: %q", got)
		}
		a = d.do(t, "GET", "/api/v1/whoami", d.admin, nil)
		if got := a.header.Values("Cache-Control"); !slices.Equal(got, []string{"no-store"}) {
			t.Errorf("of the next answer: %q", got)
		}
		if got := a.header.Values("X-Request-Id"); len(got) != 1 || got[0] == "mine" {
			t.Errorf("X-Request-Id: %q", got)
		}
	}
}
