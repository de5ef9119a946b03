package main

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm"
)

func (c *cloud) handleWebhooks(handle register) {
	hooks := &shelf[vm.Webhook]{path: "/api/v1/webhooks", id: func(w *vm.Webhook) uuid.UUID { return w.ID }, name: func(w *vm.Webhook) string { return w.Name },
		missing: vm.ErrWebhookNotFound}
	hooks.serve(handle, func(d *json.Decoder) *vm.Webhook {
		w := &vm.Webhook{ID: c.id(), Events: []string{"*"}, Enabled: true, Secret: "whsec_first", OwnerID: owner, TenantID: tenant, Version: 1, CreatedAt: day, UpdatedAt: day}
		_ = d.Decode(w)
		return w
	}, func(d *json.Decoder, w *vm.Webhook) { _ = d.Decode(w); w.Secret = "" })
	one := "/api/v1/webhooks/{id}"
	handle("POST "+one+"/rotate-secret", func(w http.ResponseWriter, _ *http.Request) {
		hook := *hooks.items[0]
		hook.Secret = "whsec_second"
		answer(w, 200, hook)
	})
	status := 503
	delivery := vm.WebhookDelivery{ID: uuid.MustParse("00000000-0000-7000-8000-0000000000dd"), EventType: "failed", Status: vm.DeliveryDead, Attempts: 16, ResponseStatus: &status, CreatedAt: day}
	again := func(w http.ResponseWriter, _ *http.Request) {
		d := delivery
		d.Status = vm.DeliveryPending
		answer(w, 202, d)
	}
	handle("POST "+one+"/test", again)
	handle("POST "+one+"/deliveries/{delivery_id}/redeliver", again)
	handle("GET "+one+"/deliveries", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, map[string]any{"items": []vm.WebhookDelivery{delivery}})
	})
	event := func(n int, kind string) vm.Event {
		return vm.Event{Cursor: fmt.Sprint(n), ID: uuid.MustParse("00000000-0000-7000-8000-0000000000ee"), Type: kind, VMID: node, TenantID: tenant, Timestamp: day,
			Metadata: json.RawMessage(`{"name":"web-1"}`)}
	}
	handle("GET /api/v1/events", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") == "application/json" && r.URL.Query().Get("kind") == "volume" {
			told := event(3, "volume.created")
			told.Object, told.VMID, told.Metadata = &vm.EventObject{Kind: "volume", ID: uuid.MustParse(r.URL.Query().Get("object_id")), Name: "data-1"}, uuid.Nil, json.RawMessage(`{}`)
			answer(w, 200, map[string]any{"items": []vm.Event{told}, "next_cursor": "3"})
			return
		}
		if r.Header.Get("Accept") == "application/json" {
			answer(w, 200, map[string]any{"items": []vm.Event{event(1, "created"), event(2, "started")}, "next_cursor": "2"})
			return
		}
		// The first stream breaks after two events; the second goes on where it was told to.
		w.Header().Set("Content-Type", "text/event-stream")
		first, kinds := 1, []string{"stopped", "started"}
		switch r.URL.Query().Get("since") {
		case "2":
			first, kinds = 3, []string{"failed"}
		case "3":
			refuse(w, vm.ErrEventsGone)
			return
		}
		fmt.Fprint(w, ": alive\nid: 0\n\n")
		for i, kind := range kinds {
			data, _ := json.Marshal(event(first+i, kind))
			fmt.Fprintf(w, "id: %d\nevent: vm\ndata: %s\n\n", first+i, data)
		}
	})
}
