package vmmodule

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/vm"
)

type eventPage struct {
	Items []vm.Event
	Next  string `json:"next_cursor"`
}

func (w *world) eventsAs(p identity.Principal, query string) eventPage {
	w.t.Helper()
	return decode[eventPage](w.t, w.doAs(p, http.MethodGet, "/api/v1/events?"+query, nil, "Accept", "application/json"), http.StatusOK)
}

func types(list []vm.Event) (types []string) {
	for _, e := range list {
		types = append(types, e.Type)
	}
	return types
}

// follower reads a stream of events.
type follower struct {
	events chan vm.Event
	cursor chan string // of signs of life
	ended  chan struct{}
	close  func()
}

func (w *world) follow(p identity.Principal, query string, headers ...string) *follower {
	w.t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.vm.Handler().ServeHTTP(rw, r.WithContext(identity.With(r.Context(), p)))
	}))
	ctx, cancel := context.WithCancel(w.t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/api/v1/events?"+query, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		w.t.Fatalf("the stream answered %d %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	f := &follower{events: make(chan vm.Event, 1000), cursor: make(chan string, 1000), ended: make(chan struct{})}
	go func() { // ends with the connection
		defer close(f.ended)
		defer resp.Body.Close()
		lines, id := bufio.NewScanner(resp.Body), ""
		for lines.Scan() {
			switch field, value, _ := strings.Cut(lines.Text(), ": "); {
			case field == "id":
				id = value
			case field == "data":
				var e vm.Event
				if err := json.Unmarshal([]byte(value), &e); err != nil || e.Cursor != id {
					w.t.Errorf("id %s, data %s: %v", id, value, err)
				}
				f.events <- e
				id = ""
			case lines.Text() == "" && id != "":
				f.cursor <- id
			}
		}
	}()
	f.close = func() {
		cancel()
		<-f.ended
		server.Close()
		http.DefaultClient.CloseIdleConnections()
	}
	return f
}

func (f *follower) next(t *testing.T) vm.Event {
	t.Helper()
	select {
	case e := <-f.events:
		return e
	case <-f.ended:
		t.Fatal("the stream has ended")
	case <-time.After(time.Minute):
		t.Fatal("no event came")
	}
	return vm.Event{}
}

func TestEventsAreFollowedWithoutGaps(t *testing.T) {
	w := newWorld(t)
	image := w.image().ID
	first := w.create("web-1", image).TargetID
	w.act(first, "stop", object{"force": true})
	all := w.eventsAs(w.tenant, "kind=vm")
	if got := types(all.Items); !slices.Equal(got, []string{"created", "started", "stopped"}) {
		t.Fatalf("told %v", got)
	}
	for _, e := range all.Items {
		if e.VMID != first || e.TenantID != w.tenant.TenantID || !strings.Contains(string(e.Metadata), `"web-1"`) {
			t.Errorf("told %+v", e)
		}
	}
	// Pages, filters, and strangers.
	page := w.eventsAs(w.tenant, "kind=vm&limit=1")
	if rest := w.eventsAs(w.tenant, "kind=vm&since="+page.Next); len(page.Items) != 1 || len(rest.Items) != 2 || rest.Items[1].Type != "stopped" {
		t.Errorf("pages: %+v then %+v", page, rest)
	}
	if got := w.eventsAs(w.tenant, "since="+all.Next); len(got.Items) != 0 || got.Next < all.Next {
		t.Errorf("after the end: %+v", got)
	}
	if got := types(w.eventsAs(w.tenant, "type=failed,stopped&vm_id="+first.String()).Items); !slices.Equal(got, []string{"stopped"}) {
		t.Errorf("filtered: %v", got)
	}
	if got := w.eventsAs(w.tenant, "vm_id="+uuid.NewString()).Items; len(got) != 0 {
		t.Errorf("of another machine: %v", got)
	}
	stranger, root := principal("*"), onPlatform("*")
	if got := w.eventsAs(stranger, "").Items; len(got) != 0 {
		t.Errorf("a stranger reads %+v", got)
	}
	if got := types(w.eventsAs(root, "tenant_id=all&kind=vm").Items); len(got) != 3 {
		t.Errorf("staff read %v", got)
	}
	for query, code := range map[string]string{"since=x": "request.invalid", "type=exploded": "request.invalid", "vm_id=1": "request.invalid", "kind=spoon": "request.invalid", "object_id=1": "request.invalid", "limit=0": "request.invalid",
		"colour=red": "request.invalid", "tenant_id=" + uuid.NewString(): "request.invalid"} {
		w.fails(http.MethodGet, "/api/v1/events?"+query, nil, http.StatusUnprocessableEntity, code)
	}
	w.fails(http.MethodGet, "/api/v1/events?tenant_id=all", nil, http.StatusForbidden, "auth.forbidden")
	w.fails(http.MethodGet, "/api/v1/events?since=99999999", nil, http.StatusGone, "event.cursor_gone")

	// A stream begins where it is told to, and goes on where it broke.
	live := w.follow(w.tenant, "")
	<-live.cursor
	w.act(first, "start", nil)
	if e := live.next(t); e.Type != "started" {
		t.Errorf("live: %+v", e)
	}
	live.close()
	replay := w.follow(w.tenant, "since=0&type=stopped,started")
	for _, want := range []string{"started", "stopped", "started"} {
		if e := replay.next(t); e.Type != want {
			t.Errorf("replay: %s, want %s", e.Type, want)
		}
	}
	replay.close()
	broken := w.follow(w.tenant, "since=0&kind=vm", "Last-Event-ID", all.Items[0].Cursor)
	if e := broken.next(t); e.ID != all.Items[1].ID {
		t.Errorf("went on with %+v", e)
	}
	broken.close()

	// It ends with the right to read it.
	me := w.tenant
	me.SessionID = uuid.New()
	revoked := w.follow(me, "")
	<-revoked.cursor
	data, err := json.Marshal(event.Auth{Type: event.AuthSessionRevoked, TenantID: me.TenantID, UserID: me.UserID, SessionID: me.SessionID})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.bus.Publish(t.Context(), bus.Message{Subject: bus.SubjectAuthEvents, Data: data}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-revoked.ended:
	case <-time.After(time.Minute):
		t.Error("the stream outlived its session")
	}
	revoked.close()

	// What is no longer kept is said, not passed over.
	if _, err := w.vm.controller.pool.Exec(t.Context(), "DELETE FROM outbox WHERE seq <= $1::bigint", all.Items[1].Cursor); err != nil {
		t.Fatal(pg.Map(err))
	}
	w.fails(http.MethodGet, "/api/v1/events?since="+all.Items[0].Cursor, nil, http.StatusGone, "event.cursor_gone")
}

// A transaction that takes long to commit is not overtaken by the cursor of those that were quicker.
func TestSlowCommitsAreNotSkipped(t *testing.T) {
	w := newWorld(t)
	image := w.image().ID
	slow := w.create("slow", image).TargetID
	w.create("quick", image)
	tx, err := w.vm.controller.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	// The locks of a change of one machine, held for a while: the event's number is taken, and nobody else's may be before it is committed.
	if _, err := tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock(hashtextextended('novacron.outbox.write.vm', 0))`); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `INSERT INTO outbox (id, subject, payload) VALUES ($1, 'vm.events', $2)`, uuid.New(),
		map[string]any{"id": uuid.New(), "type": "updated", "vm_id": slow, "tenant_id": w.tenant.TenantID, "metadata": map[string]any{}, "timestamp": time.Now()}); err != nil {
		t.Fatal(err)
	}
	before := w.eventsAs(w.tenant, "")
	done := make(chan struct{})
	go func() { // waits for the lock
		defer close(done)
		w.create("third", image)
	}()
	if meanwhile := w.eventsAs(w.tenant, "since="+before.Next); len(meanwhile.Items) != 0 {
		t.Errorf("overtaken by %v", types(meanwhile.Items))
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-done
	if got := types(w.eventsAs(w.tenant, "since="+before.Next).Items); len(got) < 2 || got[0] != "updated" {
		t.Errorf("after the commit: %v", got)
	}
}
