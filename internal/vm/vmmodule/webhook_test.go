package vmmodule

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/webhook"
)

// delivered is a request that a receiver got.
type delivered struct {
	id, at, signature, body string
}

// signedBy checks a signature as a receiver does.
func (d delivered) signedBy(secret string) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(d.id + "." + d.at + "." + d.body))
	return err == nil && slices.Contains(strings.Split(d.signature, " "), "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// receiver stands for the other side of a webhook.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex // guards what follows
	got    []delivered
	answer func(http.ResponseWriter)
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{answer: func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.got = append(r.got, delivered{req.Header.Get("Webhook-Id"), req.Header.Get("Webhook-Timestamp"), req.Header.Get("Webhook-Signature"), string(body)})
		answer := r.answer
		r.mu.Unlock()
		answer(w)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) set(answer func(http.ResponseWriter)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func (r *receiver) all() []delivered {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func (w *world) hook(p identity.Principal, body object) vm.Webhook {
	w.t.Helper()
	return decode[vm.Webhook](w.t, w.doAs(p, http.MethodPost, "/api/v1/webhooks", body), http.StatusCreated)
}

func (w *world) deliveries(hook uuid.UUID, query string) []vm.WebhookDelivery {
	w.t.Helper()
	return decode[struct{ Items []vm.WebhookDelivery }](w.t, w.do(http.MethodGet, "/api/v1/webhooks/"+hook.String()+"/deliveries?"+query, nil), http.StatusOK).Items
}

func quickly() webhook.Config {
	return webhook.Config{Interval: 20 * time.Millisecond, BackOff: time.Millisecond, Attempts: 5}
}

func newHookWorld(t *testing.T) *world {
	return newWorldWith(t, func(_ *world, c *Config) {
		c.WebhookAllow, c.webhooks = []string{"127.0.0.0/8"}, quickly()
	})
}

func TestWebhooksAreSentEventsOnce(t *testing.T) {
	w := newHookWorld(t)
	r, other := newReceiver(t), newReceiver(t)
	some := w.hook(w.tenant, object{"name": "some", "url": r.URL + "/x?y=1", "events": []string{"created", "failed"}})
	w.hook(principal("*"), object{"name": "strangers", "url": other.URL})
	image := w.image().ID
	made := w.create("web-1", image).TargetID
	w.act(made, "stop", object{"force": true})
	w.create("web-2", image)
	w.eventually("both creations arrive", func() bool { return len(r.all()) >= 2 })
	for _, d := range r.all() {
		var e vm.Event
		if err := json.Unmarshal([]byte(d.body), &e); err != nil || e.Type != "created" || e.ID.String() != d.id || e.TenantID != w.tenant.TenantID || !d.signedBy(some.Secret) {
			t.Errorf("received %+v: %v", d, err)
		}
	}
	w.eventually("they are marked", func() bool { return len(w.deliveries(some.ID, "status=delivered")) == 2 })
	one := w.deliveries(some.ID, "")[0]
	whole := decode[vm.WebhookDelivery](t, w.do(http.MethodGet, "/api/v1/webhooks/"+some.ID.String()+"/deliveries/"+one.ID.String(), nil), http.StatusOK)
	if *whole.ResponseStatus != 204 || whole.Attempts != 1 || !strings.Contains(string(whole.Payload), whole.EventID.String()) || whole.NextAttemptAt != nil {
		t.Errorf("the log has %+v", whole)
	}
	if n := len(other.all()); n != 0 || len(r.all()) != 2 {
		t.Errorf("a stranger was sent %d, the receiver %d", n, len(r.all()))
	}

	// Redelivery, and a new secret beside the old one.
	w.do(http.MethodPost, "/api/v1/webhooks/"+some.ID.String()+"/deliveries/"+one.ID.String()+"/redeliver", nil)
	w.eventually("it arrives again", func() bool { return len(r.all()) == 3 })
	if again := r.all()[2]; again.id != one.EventID.String() {
		t.Errorf("again: %+v", again)
	}
	rotated := decode[vm.Webhook](t, w.do(http.MethodPost, "/api/v1/webhooks/"+some.ID.String()+"/rotate-secret", object{"overlap_seconds": 3600}), http.StatusOK)
	w.do(http.MethodPost, "/api/v1/webhooks/"+some.ID.String()+"/test", nil)
	w.eventually("the test arrives", func() bool { return len(r.all()) == 4 })
	if d := r.all()[3]; !d.signedBy(some.Secret) || !d.signedBy(rotated.Secret) || some.Secret == rotated.Secret || !strings.Contains(d.body, `"test"`) {
		t.Errorf("signed as %s", d.signature)
	}
	decode[vm.Webhook](t, w.do(http.MethodPost, "/api/v1/webhooks/"+some.ID.String()+"/rotate-secret", object{"overlap_seconds": 0}), http.StatusOK)
	w.do(http.MethodPost, "/api/v1/webhooks/"+some.ID.String()+"/test", nil)
	w.eventually("another test arrives", func() bool { return len(r.all()) == 5 })
	if d := r.all()[4]; d.signedBy(rotated.Secret) {
		t.Error("an old secret signs still")
	}
	if got := decode[vm.Webhook](t, w.do(http.MethodGet, "/api/v1/webhooks/"+some.ID.String(), nil), http.StatusOK); got.Secret != "" {
		t.Error("the secret is shown again")
	}

	// A process that died in the middle is replaced, and nothing is given out twice.
	if err := w.vm.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.driver = w.driver.Reborn()
	if err := w.vm.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.eventually("the module is ready", func() bool { return w.vm.Ready(t.Context()) == nil })
	w.create("web-3", image)
	w.eventually("the third creation arrives", func() bool { return len(r.all()) == 6 })
}

func TestWebhooksThatFail(t *testing.T) {
	w := newHookWorld(t)
	bad, good := newReceiver(t), newReceiver(t)
	failing := w.hook(w.tenant, object{"name": "failing", "url": bad.URL, "events": []string{"created"}})
	working := w.hook(w.tenant, object{"name": "working", "url": good.URL, "events": []string{"created"}})
	bad.set(func(rw http.ResponseWriter) { http.Error(rw, "no\x00t now", http.StatusInternalServerError) })
	w.create("web-1", w.image().ID)
	w.eventually("the one that works is sent the event", func() bool { return len(w.deliveries(working.ID, "status=delivered")) == 1 })
	w.eventually("the other's is given up", func() bool { return len(w.deliveries(failing.ID, "status=dead")) == 1 })
	dead := w.deliveries(failing.ID, "")[0]
	if dead.Attempts != 5 || *dead.ResponseStatus != 500 || dead.Response != "not now\n" || len(bad.all()) != 5 {
		t.Errorf("given up as %+v after %d requests", dead, len(bad.all()))
	}
	one := "/api/v1/webhooks/" + failing.ID.String()
	if got := decode[vm.Webhook](t, w.do(http.MethodGet, one, nil), http.StatusOK); got.FailingSince == nil || !got.Enabled {
		t.Errorf("the webhook is %+v", got)
	}
	// It may come back, and what was given up can be sent after all.
	bad.set(func(rw http.ResponseWriter) { rw.WriteHeader(http.StatusOK) })
	w.do(http.MethodPost, one+"/deliveries/"+dead.ID.String()+"/redeliver", nil)
	w.eventually("it is delivered", func() bool { return len(w.deliveries(failing.ID, "status=delivered")) == 1 })
	if got := decode[vm.Webhook](t, w.do(http.MethodGet, one, nil), http.StatusOK); got.FailingSince != nil {
		t.Errorf("it fails since %v", got.FailingSince)
	}
	// Gone is gone: it is switched off, and on again by hand.
	bad.set(func(rw http.ResponseWriter) { rw.WriteHeader(http.StatusGone) })
	w.do(http.MethodPost, one+"/test", nil)
	off := func() (h vm.Webhook) {
		w.eventually("it is switched off", func() bool {
			h = decode[vm.Webhook](t, w.do(http.MethodGet, one, nil), http.StatusOK)
			return !h.Enabled
		})
		return h
	}
	if h := off(); !strings.Contains(h.DisabledReason, "410") {
		t.Errorf("switched off because %s", h.DisabledReason)
	}
	on := decode[vm.Webhook](t, w.do(http.MethodPatch, one, object{"enabled": true}), http.StatusOK)
	if !on.Enabled || on.DisabledReason != "" || on.FailingSince != nil {
		t.Errorf("switched on: %+v", on)
	}
	// One that has failed for too long is switched off, too. A redirect is no success, and not followed.
	bad.set(func(rw http.ResponseWriter) { rw.Header().Set("Location", good.URL); rw.WriteHeader(http.StatusFound) })
	if _, err := w.vm.controller.pool.Exec(t.Context(), "UPDATE webhooks SET failing_since = now() - interval '4 days' WHERE id = $1", failing.ID); err != nil {
		t.Fatal(err)
	}
	w.do(http.MethodPost, one+"/test", nil)
	if h := off(); !strings.Contains(h.DisabledReason, "no delivery has succeeded") || len(good.all()) != 1 {
		t.Errorf("switched off because %s; the other was sent %d", h.DisabledReason, len(good.all()))
	}
	if rec := w.do(http.MethodDelete, one, nil); rec.Code != http.StatusNoContent {
		t.Errorf("delete: %d %s", rec.Code, rec.Body)
	}
	w.fails(http.MethodGet, one+"/deliveries", nil, http.StatusNotFound, "webhook.not_found")
}

// A receiver that answers nobody holds up nobody.
func TestSlowReceiversHoldUpNobody(t *testing.T) {
	w := newHookWorld(t)
	slow, quick := newReceiver(t), newReceiver(t)
	release := make(chan struct{})
	slow.set(func(http.ResponseWriter) { <-release })
	defer close(release)
	for n := range 10 {
		h := w.hook(w.tenant, object{"name": "slow-" + string(rune('a'+n)), "url": slow.URL})
		for range 6 {
			w.do(http.MethodPost, "/api/v1/webhooks/"+h.ID.String()+"/test", nil)
		}
		if n == 3 {
			w.eventually("the first receivers are busy", func() bool { return len(slow.all()) == 16 }) // 4 each, for 24 that wait
		}
	}
	h := w.hook(w.tenant, object{"name": "quick", "url": quick.URL})
	w.do(http.MethodPost, "/api/v1/webhooks/"+h.ID.String()+"/test", nil)
	w.eventually("the quick one is sent its own", func() bool { return len(quick.all()) == 1 })
}

func TestWebhooksReachNothingInside(t *testing.T) {
	w := newWorldWith(t, func(_ *world, c *Config) { c.webhooks = quickly() })
	r := newReceiver(t)
	for what, body := range map[string]object{
		"loopback":       {"name": "x", "url": r.URL},
		"metadata":       {"name": "x", "url": "http://169.254.169.254/latest"},
		"mapped":         {"name": "x", "url": "http://[::ffff:127.0.0.1]:80/"},
		"no address":     {"name": "x", "url": "//"},
		"another scheme": {"name": "x", "url": "file:///etc/passwd"},
		"a password":     {"name": "x", "url": "https://ada:secret@hooks.example.org/"},
		"a fragment":     {"name": "x", "url": "https://hooks.example.org/#x"},
		"no such type":   {"name": "x", "url": "https://hooks.example.org/", "events": []string{"exploded"}},
		"no types":       {"name": "x", "url": "https://hooks.example.org/", "events": []string{}},
	} {
		p := decode[errs.Problem](t, w.do(http.MethodPost, "/api/v1/webhooks", body), http.StatusUnprocessableEntity)
		if p.Code != "webhook.invalid" || len(p.Errors) != 1 || strings.Contains(p.Errors[0].Value, "secret") {
			t.Errorf("%s: %+v", what, p)
		}
	}
	// A name is judged by where it leads, when it is used.
	byName := w.hook(w.tenant, object{"name": "by-name", "url": strings.Replace(r.URL, "127.0.0.1", "localhost", 1)})
	w.do(http.MethodPost, "/api/v1/webhooks/"+byName.ID.String()+"/test", nil)
	w.eventually("it is tried", func() bool { d := w.deliveries(byName.ID, ""); return len(d) == 1 && d[0].Attempts > 1 })
	if d := w.deliveries(byName.ID, "")[0]; d.Status == vm.DeliveryDelivered || !strings.Contains(d.Error, "own networks") {
		t.Errorf("tried as %+v", d)
	}
	// Who administers the platform may; who changes the address answers for it.
	root := onPlatform("*")
	inside := w.hook(root, object{"name": "inside", "url": r.URL})
	one := "/api/v1/webhooks/" + inside.ID.String()
	w.doAs(root, http.MethodPost, one+"/test", nil)
	w.eventually("the administrator's is sent", func() bool { return len(r.all()) == 1 })
	mate := root
	mate.UserID, mate.Platform = uuid.New(), nil
	if p := decode[errs.Problem](t, w.doAs(mate, http.MethodPatch, one, object{"url": r.URL + "/other"}), http.StatusUnprocessableEntity); p.Code != "webhook.invalid" {
		t.Errorf("changed by another: %s", p.Code)
	}
}
