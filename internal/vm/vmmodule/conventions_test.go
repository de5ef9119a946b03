package vmmodule

import (
	"net/http"
	"strings"
	"testing"

	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/vm"
)

// TestDeleteOfWhatHasChanged deletes objects of every kind with the ETag of an older version, which is refused, and with their own.
func TestDeleteOfWhatHasChanged(t *testing.T) {
	w := newHookWorld(t)
	root := w.tenant
	root.Scope = identity.ScopePlatform
	image := "/api/v1/images/" + w.image().ID.String()
	w.eventually("the image is imported", func() bool {
		return decode[vm.Image](t, w.do(http.MethodGet, image, nil), http.StatusOK).Status == vm.ImageReady
	})
	receiver := newReceiver(t)
	for kind, test := range map[string]struct {
		of     string
		body   object // of the POST that makes one
		change object // of the PATCH that makes another version of it; none: it cannot be changed
	}{
		"image":          {change: object{"name": "other"}},
		"network":        {"/api/v1/networks", object{"name": "lan", "mode": "isolated", "cidr": "10.77.0.0/24"}, object{"name": "other"}},
		"security_group": {"/api/v1/security-groups", object{"name": "web"}, object{"name": "other"}},
		"template":       {"/api/v1/templates", object{"name": "web", "spec": object{"flavor": "small"}}, object{"name": "other"}},
		"flavor":         {"/api/v1/flavors", object{"name": "build", "resources": object{"vcpus": 2, "memory_mib": 256, "disk_gib": 3}}, object{"name": "other"}},
		"webhook":        {"/api/v1/webhooks", object{"name": "some", "url": receiver.URL}, object{"name": "other"}},
		"ssh_key":        {of: "/api/v1/ssh-keys", body: object{"name": "laptop", "public_key": publicKey}},
	} {
		t.Run(kind, func(t *testing.T) {
			path := image
			if test.of != "" {
				rec := w.doAs(root, http.MethodPost, test.of, test.body)
				if rec.Code != http.StatusCreated {
					t.Fatalf("made: %d %s", rec.Code, rec.Body)
				}
				path = rec.Header().Get("Location")
			}
			tag := w.doAs(root, http.MethodGet, path, nil).Header().Get("ETag")
			stale := `"4711"`
			if test.change != nil {
				if rec := w.doAs(root, http.MethodPatch, path, test.change, "If-Match", tag); rec.Code != http.StatusOK {
					t.Fatalf("changed: %d %s", rec.Code, rec.Body)
				}
				stale, tag = tag, w.doAs(root, http.MethodGet, path, nil).Header().Get("ETag")
			}
			if tag == "" || tag == stale {
				t.Fatalf("the tag is %s, and was %s", tag, stale)
			}
			for _, header := range []string{stale, `"x"`} {
				rec := w.doAs(root, http.MethodDelete, path, nil, "If-Match", header)
				if rec.Code != http.StatusPreconditionFailed || !strings.Contains(rec.Body.String(), kind+".version_mismatch") {
					t.Errorf("deleted with %s: %d %s", header, rec.Code, rec.Body)
				}
			}
			if rec := w.doAs(root, http.MethodGet, path, nil); rec.Code != http.StatusOK {
				t.Fatalf("it is gone: %d %s", rec.Code, rec.Body)
			}
			if rec := w.doAs(root, http.MethodDelete, path, nil, "If-Match", tag); rec.Code/100 != 2 {
				t.Errorf("deleted with its own tag: %d %s", rec.Code, rec.Body)
			}
		})
	}
}

// TestRawRoutesAreStrict asks routes that answer with bytes for what they do not know.
func TestRawRoutesAreStrict(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.image().ID).TargetID
	for _, path := range []string{vmPath(id) + "/console/log?tail=5", vmPath(id) + "/console/log?offset=0&offset=1", vmPath(id) + "/console/screenshot?scale=2",
		"/api/v1/events?since=0&colour=red"} {
		w.problem(http.MethodGet, path, nil, http.StatusUnprocessableEntity, "request.invalid")
	}
	if rec := w.do(http.MethodGet, vmPath(id)+"/console/log?offset=0", nil); rec.Code != http.StatusOK {
		t.Errorf("the log: %d %s", rec.Code, rec.Body)
	}
}

// TestPreferenceApplied has answers tell whether they heeded Prefer.
func TestPreferenceApplied(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.image().ID).TargetID
	for _, test := range []struct{ query, prefer, want string }{
		{"", "wait=60", "wait=60"}, {"", "respond-async, wait=9999", "wait=300"}, {"", "return=minimal", ""}, {"", "", ""}, {"?wait=60s", "wait=7", ""},
	} {
		rec := w.do(http.MethodPost, vmPath(id)+"/start"+test.query, nil, "Prefer", test.prefer)
		if got, sent := rec.Header()["Preference-Applied"]; rec.Code/100 != 2 || rec.Header().Get("Preference-Applied") != test.want || sent != (test.want != "") {
			t.Errorf("%q and Prefer %q are answered with %d and %q", test.query, test.prefer, rec.Code, got)
		}
	}
}
