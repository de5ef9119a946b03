package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/service"
)

func (a *API) registerEvents(kit *httpx.API) {
	kit.Raw(httpx.Op{ID: "event-stream", Method: http.MethodGet, Path: "/api/v1/events", Permission: "event:read", Tag: "events",
		Summary: "Follow what happens to virtual machines, volumes, snapshots, images, networks, security groups and port forwards, as server-sent events",
		Description: "Each event is named for the kind of its object, `vm` for machines; its `id` is a cursor, its `data` an Event. A connection that broke goes on without a gap with the last cursor in " +
			"`since` or `Last-Event-ID`, also after restarts, for as long as events are kept: seven days. Blocks without data tell how far a silent stream is. " +
			"With `Accept: application/json` the answer is one page: `items`, and `next_cursor` for `since` of the next request.",
		Errors: []*errs.Error{vm.ErrEventsGone, vm.ErrEventReaders, httpx.ErrInvalid}},
		httpx.RawDoc{Parameters: []httpx.RawParam{
			{In: "query", Name: "since", Description: "Cursor of the last event that was seen; 0 is the oldest that is kept. Default: from now on.", Example: "4711"},
			{In: "query", Name: "type", Description: "Only events of these types, with commas between: " + strings.Join(vm.EventTypes(), ", ") + ".", Example: "started,failed"},
			{In: "query", Name: "kind", Description: "Only events of these kinds of objects, with commas between: " + strings.Join(vm.EventKinds(), ", ") + ".", Example: "volume,snapshot"},
			{In: "query", Name: "object_id", Description: "Only events of this object, whatever its kind."},
			{In: "query", Name: "vm_id", Description: "Only events of this virtual machine and of what belongs to it."},
			{In: "query", Name: "tenant_id", Description: "`all`: of all tenants; needs the permission on the platform."},
			{In: "query", Name: "limit", Description: "Of a page: 1 to 500, 50 unless given."},
			{In: "header", Name: "Last-Event-ID", Description: "As since; goes before it."},
		}, AnswerType: "text/event-stream", AnswerText: "Events, as they come."}, a.events)
}

// eventRequest reads the query. What the route does not take, and what is there twice, was refused before.
func eventRequest(r *http.Request) (req service.EventRequest, limit int, err error) {
	query := r.URL.Query()
	req.Since, limit = query.Get("since"), httpx.DefaultLimit
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		req.Since = last
	}
	if req.Types, err = oneOf(query, "type", vm.EventTypes(), "is not a type of events"); err != nil {
		return req, 0, err
	}
	if req.Kinds, err = oneOf(query, "kind", vm.EventKinds(), "is not a kind of objects"); err != nil {
		return req, 0, err
	}
	if req.ObjectID, err = idIn(query, "object_id"); err != nil {
		return req, 0, err
	}
	if req.VMID, err = idIn(query, "vm_id"); err != nil {
		return req, 0, err
	}
	switch text := query.Get("tenant_id"); text {
	case "", "all":
		req.AllTenants = text != ""
	default:
		return req, 0, httpx.ErrInvalid.WithField("query.tenant_id", "can only be all; X-Tenant-ID names a tenant to act in", text)
	}
	if text := query.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > httpx.MaxLimit {
			return req, 0, httpx.ErrInvalid.WithField("query.limit", fmt.Sprintf("is not a number from 1 to %d", httpx.MaxLimit), text)
		}
	}
	return req, limit, nil
}

// oneOf reads a list of words with commas between, each of which must be known.
func oneOf(query url.Values, name string, known []string, why string) ([]string, error) {
	text := query.Get(name)
	if text == "" {
		return nil, nil
	}
	words := strings.Split(text, ",")
	for _, word := range words {
		if !slices.Contains(known, word) {
			return nil, httpx.ErrInvalid.WithField("query."+name, why, word)
		}
	}
	return words, nil
}

// idIn reads an id; nil where there is none.
func idIn(query url.Values, name string) (*uuid.UUID, error) {
	text := query.Get(name)
	if text == "" {
		return nil, nil
	}
	id, err := uuid.Parse(text)
	if err != nil {
		return nil, httpx.ErrInvalid.WithField("query."+name, "is not a UUID", text)
	}
	return &id, nil
}

func (a *API) events(w http.ResponseWriter, r *http.Request) {
	req, limit, err := eventRequest(r)
	if err != nil {
		httpx.WriteError(w, r, err)
		return
	}
	page := wantsJSON(r)
	if page && req.Since == "" {
		req.Since = "0" // a page of what is yet to come would be empty for ever
	}
	reader, err := a.svc.Events(r.Context(), req)
	if err != nil {
		httpx.WriteError(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	if page {
		events, err := reader.Next(r.Context(), limit)
		if err != nil {
			httpx.WriteError(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(httpx.Page[vm.Event]{Items: append([]vm.Event{}, events...), NextCursor: reader.Cursor()}) // the client may be gone
		return
	}
	flusher := http.NewResponseController(w)
	begun := false
	err = reader.Follow(r.Context(), func(events []vm.Event) error {
		if !begun {
			w.Header().Set("Content-Type", "text/event-stream")
			begun = true
		}
		// A client that takes nothing any more must not be waited for.
		_ = flusher.SetWriteDeadline(time.Now().Add(time.Minute))
		var out bytes.Buffer
		for _, e := range events {
			body, err := json.Marshal(e)
			if err != nil {
				return fmt.Errorf("encode event %s: %w", e.ID, err)
			}
			kind := vm.KindVM
			if e.Object != nil {
				kind = e.Object.Kind
			}
			fmt.Fprintf(&out, "id: %s\nevent: %s\ndata: %s\n\n", e.Cursor, kind, body)
		}
		if len(events) == 0 {
			fmt.Fprintf(&out, ": alive\nid: %s\n\n", reader.Cursor())
		}
		if _, err := w.Write(out.Bytes()); err != nil {
			return fmt.Errorf("write events: %w", err)
		}
		return flusher.Flush()
	})
	switch {
	case err == nil || r.Context().Err() != nil:
	case !begun:
		httpx.WriteError(w, r, err)
	default:
		a.cfg.Log.DebugContext(r.Context(), "stream of events ended early", "error", err)
	}
}

// wantsJSON tells whether the client asks for JSON and for no stream.
func wantsJSON(r *http.Request) bool {
	found := false
	for _, part := range strings.Split(r.Header.Get("Accept"), ",") {
		switch kind, _, _ := mime.ParseMediaType(part); kind {
		case "application/json":
			found = true
		case "text/event-stream":
			return false
		}
	}
	return found
}
