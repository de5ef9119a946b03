package vmmodule

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/vm"
)

// toldOf are the types of the events of one object, in their order.
func (w *world) toldOf(id uuid.UUID) []string {
	w.t.Helper()
	list := w.eventsAs(w.tenant, "limit=500&object_id="+id.String()).Items
	for _, e := range list {
		if e.Object == nil || e.Object.ID != id || e.TenantID != w.tenant.TenantID || !strings.HasPrefix(e.Type, e.Object.Kind+".") {
			w.t.Errorf("an event of %s is %+v", id, e)
		}
	}
	return types(list)
}

func (w *world) tells(what string, id uuid.UUID, want ...string) {
	w.t.Helper()
	if got := w.toldOf(id); !slices.Equal(got, want) {
		w.t.Errorf("of the %s was told %v, want %v", what, got, want)
	}
}

// last gives the facts of the last event of an object.
func (w *world) last(id uuid.UUID) (e vm.Event, facts map[string]any) {
	w.t.Helper()
	list := w.eventsAs(w.tenant, "limit=500&object_id="+id.String()).Items
	e = list[len(list)-1]
	if err := json.Unmarshal(e.Metadata, &facts); err != nil {
		w.t.Fatal(err)
	}
	return e, facts
}

// One of everything is made, changed in every way and deleted, with and without its machine.
func TestEveryChangeOfAnObjectIsToldOnce(t *testing.T) {
	w := newWorld(t)
	image := w.ready(w.image().ID).ID
	id := w.create("web-1", image).TargetID
	nic := w.interfaces(id)[0]

	volume, kept, gone := w.newVolume("data-1"), w.newVolume("data-2"), w.newVolume("data-3")
	for _, v := range []uuid.UUID{volume, kept, gone} {
		w.succeeds(http.MethodPost, w.vmPath(id)+"/disks", object{"volume_id": v})
	}
	if e, facts := w.last(volume); e.VMID != id || e.Object.Name != "data-1" || e.Object.Kind != "volume" || facts["operation"] != "vm.disk.attach" || facts["operation_id"] == nil {
		t.Errorf("attached: %+v %v", e, facts)
	}
	w.succeeds(http.MethodPost, w.volumePath(volume)+"/resize", object{"size_gib": 2})
	if _, facts := w.last(volume); facts["size_bytes"] != float64(2<<30) {
		t.Errorf("resized: %v", facts)
	}
	w.succeeds(http.MethodDelete, w.vmPath(id)+"/disks/"+volume.String(), nil)
	w.succeeds(http.MethodPost, w.volumePath(volume)+"/resize", object{"size_gib": 3})
	decode[vm.Volume](t, w.do(http.MethodPatch, w.volumePath(volume), object{"name": "archive"}), http.StatusOK)
	w.succeeds(http.MethodDelete, w.volumePath(volume), nil)
	w.tells("volume", volume, "volume.created", "volume.attached", "volume.resized", "volume.detached", "volume.resized", "volume.updated", "volume.deleted")

	first := w.take(id, object{"name": "first"})
	if e, facts := w.last(first.ID); e.VMID != id || facts["pause_ms"] == nil || facts["expected_pause_ms"] == nil || facts["memory"] != false {
		t.Errorf("taken: %+v %v", e, facts)
	}
	w.succeeds(http.MethodPost, w.vmPath(id)+"/snapshots/"+first.ID.String()+"/revert", object{"start": true})
	second := w.take(id, object{"name": "second"})
	w.succeeds(http.MethodDelete, w.vmPath(id)+"/snapshots/"+first.ID.String(), nil)
	w.tells("snapshot", first.ID, "snapshot.created", "snapshot.reverted", "snapshot.deleted")

	lan := w.network(object{"name": "lan", "cidr": "10.202.1.0/24"})
	decode[vm.Network](t, w.do(http.MethodPatch, "/api/v1/networks/"+lan.ID.String(), object{"name": "office"}), http.StatusOK)
	w.ends(http.MethodPost, w.vmPath(id)+"/interfaces", object{}, "succeeded")
	plugged := w.interfaces(id)[1]
	w.ends(http.MethodDelete, "/api/v1/networks/"+lan.ID.String(), nil, "succeeded")
	w.tells("network", lan.ID, "network.created", "network.updated", "network.deleted")

	group := decode[vm.SecurityGroup](t, w.do(http.MethodPost, "/api/v1/security-groups", object{"name": "web"}), http.StatusCreated)
	path := "/api/v1/security-groups/" + group.ID.String()
	rule := decode[vm.SecurityRule](t, w.do(http.MethodPost, path+"/rules", object{"direction": "ingress", "protocol": "tcp", "port_min": 80}), http.StatusCreated)
	if _, facts := w.last(group.ID); facts["change"] != "rule.added" || facts["rule_id"] != rule.ID.String() {
		t.Errorf("a rule more: %v", facts)
	}
	w.do(http.MethodDelete, path+"/rules/"+rule.ID.String(), nil)
	decode[vm.SecurityGroup](t, w.do(http.MethodPatch, path, object{"description": "the web"}), http.StatusOK)
	w.do(http.MethodDelete, path, nil)
	w.tells("security group", group.ID, "security-group.created", "security-group.updated", "security-group.updated", "security-group.updated", "security-group.deleted")

	open := func(nic uuid.UUID, port int) uuid.UUID {
		return decode[vm.PortForward](t, w.do(http.MethodPost, "/api/v1/port-forwards", object{"vm_id": id, "interface_id": nic, "host_port": port, "guest_port": 80}), http.StatusCreated).ID
	}
	closed, withInterface, withMachine := open(nic.ID, 31001), open(plugged.ID, 31002), open(nic.ID, 31003)
	w.do(http.MethodDelete, "/api/v1/port-forwards/"+closed.String(), nil)
	w.ends(http.MethodDelete, w.vmPath(id)+"/interfaces/"+plugged.ID.String(), nil, "succeeded")
	w.tells("forward of the interface", withInterface, "port-forward.created", "port-forward.deleted")
	w.tells("forward that was closed", closed, "port-forward.created", "port-forward.deleted")
	w.tells("forward of the machine", withMachine, "port-forward.created")

	// What goes with the machine is told before the machine is.
	w.succeeds(http.MethodDelete, w.vmPath(id), nil)
	w.tells("forward of the machine", withMachine, "port-forward.created", "port-forward.deleted")
	w.tells("snapshot of the machine", second.ID, "snapshot.created", "snapshot.deleted")
	w.tells("volume that stays", kept, "volume.created", "volume.attached", "volume.detached")
	w.tells("other volume that stays", gone, "volume.created", "volume.attached", "volume.detached")
	of := w.eventsAs(w.tenant, "limit=500&vm_id="+id.String()).Items
	if got := types(of); got[len(got)-1] != "deleted" || !slices.Contains(got, "snapshot.deleted") {
		t.Errorf("of the machine and what it had: %v", got)
	}

	// A machine whose volumes go with it.
	with := w.create("web-2", image).TargetID
	w.succeeds(http.MethodPost, w.vmPath(with)+"/disks", object{"volume_id": gone})
	w.succeeds(http.MethodDelete, w.vmPath(with)+"?delete_volumes=true", nil)
	w.tells("volume that goes", gone, "volume.created", "volume.attached", "volume.detached", "volume.attached", "volume.deleted")

	friend, root := principal("*"), w.tenant
	root.Scope = identity.ScopePlatform
	decode[vm.Image](t, w.do(http.MethodPatch, "/api/v1/images/"+image.String(), object{"visibility": "shared", "shared_with": []uuid.UUID{friend.TenantID}}), http.StatusOK)
	if _, facts := w.last(image); facts["visibility"] != "shared" || !strings.Contains(strings.ToLower(string(must(json.Marshal(facts)))), friend.TenantID.String()) {
		t.Errorf("shared: %v", facts)
	}
	decode[vm.Image](t, w.do(http.MethodPatch, "/api/v1/images/"+image.String(), object{"name": "renamed"}), http.StatusOK)
	decode[vm.Image](t, w.doAs(root, http.MethodPatch, "/api/v1/images/"+image.String(), object{"visibility": "public", "name": "for-all"}), http.StatusOK)
	decode[vm.Image](t, w.doAs(root, http.MethodPatch, "/api/v1/images/"+image.String(), object{"visibility": "private"}), http.StatusOK)
	if rec := w.do(http.MethodDelete, "/api/v1/images/"+image.String(), nil); rec.Code != http.StatusNoContent {
		t.Errorf("delete: %d %s", rec.Code, rec.Body)
	}
	w.tells("image", image, "image.created", "image.shared", "image.updated", "image.shared", "image.updated", "image.shared", "image.deleted")

	// Nobody else is told, not even who may use the image; staff of the platform read all.
	if got := w.eventsAs(friend, "limit=500").Items; len(got) != 0 {
		t.Errorf("others read %v", types(got))
	}
	all := w.eventsAs(w.tenant, "limit=500").Items
	if got := w.eventsAs(onPlatform("*"), "tenant_id=all&limit=500").Items; len(got) != len(all) {
		t.Errorf("staff read %d of %d", len(got), len(all))
	}
	kinds := w.eventsAs(w.tenant, "kind=volume,snapshot&limit=500").Items
	for _, e := range kinds {
		if e.Object.Kind != "volume" && e.Object.Kind != "snapshot" {
			t.Errorf("filtered by kind: %+v", e)
		}
	}
	if n := len(w.eventsAs(w.tenant, "kind=vm&limit=500").Items); n == 0 || len(kinds) == 0 || n+len(kinds) >= len(all) {
		t.Errorf("%d of machines, %d of volumes and snapshots, %d in all", n, len(kinds), len(all))
	}
	if n := len(w.eventsAs(w.tenant, "kind=vm&object_id="+id.String()).Items); n == 0 {
		t.Error("a machine is no object")
	}

	// Told once and in order, also to who goes on from anywhere.
	seen := map[uuid.UUID]bool{}
	for _, e := range all {
		if seen[e.ID] {
			t.Errorf("told twice: %+v", e)
		}
		seen[e.ID] = true
	}
	half := all[len(all)/2]
	stream := w.follow(w.tenant, "since="+half.Cursor)
	defer stream.close()
	for _, want := range all[len(all)/2+1:] {
		if e := stream.next(t); e.ID != want.ID {
			t.Fatalf("replayed %+v, want %+v", e, want)
		}
	}
	live := w.newVolume("live")
	if e := stream.next(t); e.Type != "volume.created" || e.Object.ID != live {
		t.Errorf("live: %+v", e)
	}
}

// What fails and is undone was never there: nobody is told that it was created.
func TestFailuresOfObjectsAreTold(t *testing.T) {
	w := newWorld(t)
	image := w.ready(w.image().ID).ID
	id, volume, attached := w.create("web-1", image).TargetID, w.newVolume("data-1"), w.newVolume("data-2")
	w.succeeds(http.MethodPost, w.vmPath(id)+"/disks", object{"volume_id": attached})
	taken := w.take(id, nil)
	failed := func(kind, step string, method, path string, body any) uuid.UUID {
		t.Helper()
		w.failAt(kind, step, "after do")
		defer w.failing(nil)
		o := w.ended(method, path, body)
		if o.Status != "failed" {
			t.Fatalf("%s ended as %+v", kind, o)
		}
		return o.TargetID
	}
	w.tells("volume", failed("volume.create", "file", http.MethodPost, "/api/v1/volumes", object{"name": "data-3", "size_gib": 1}), "volume.failed")
	w.tells("snapshot", failed("vm.snapshot.create", "take", http.MethodPost, w.vmPath(id)+"/snapshots", object{}), "snapshot.failed")
	failed("vm.disk.attach", "define", http.MethodPost, w.vmPath(id)+"/disks", object{"volume_id": volume})
	w.tells("volume that was not attached", volume, "volume.created", "volume.failed")
	if e, facts := w.last(volume); facts["code"] != "test.broken" || facts["operation"] != "vm.disk.attach" || e.VMID != id {
		t.Errorf("failed: %+v %v", e, facts)
	}
	failed("volume.resize", "reserve", http.MethodPost, w.volumePath(volume)+"/resize", object{"size_gib": 2})
	w.tells("volume that did not grow", volume, "volume.created", "volume.failed", "volume.failed")
	// A file that has grown stays so, although the operation fails.
	failed("vm.disk.resize", "grow", http.MethodPost, w.volumePath(attached)+"/resize", object{"size_gib": 2})
	w.tells("volume that grew", attached, "volume.created", "volume.attached", "volume.resized", "volume.failed")
	failed("vm.snapshot.revert", "stop", http.MethodPost, w.vmPath(id)+"/snapshots/"+taken.ID.String()+"/revert", object{})
	w.tells("snapshot that stays", taken.ID, "snapshot.created", "snapshot.failed")

	// The answer comes when the network has ended, one way or the other.
	w.failAt("network.create", "ensure", "after do")
	w.do(http.MethodPost, "/api/v1/networks", object{"name": "lan", "cidr": "10.202.1.0/24"})
	w.failing(nil)
	w.eventually("the failure is told", func() bool { return len(w.eventsAs(w.tenant, "type=network.failed").Items) == 1 })
	if lan := w.eventsAs(w.tenant, "type=network.failed").Items[0].Object; lan.Name != "lan" || len(w.toldOf(lan.ID)) != 1 {
		t.Errorf("of the network was told %v", w.toldOf(lan.ID))
	}
	w.failAt("image.import", "publish", "after do") // it was ready already, and is not any more
	bad := w.image().ID
	w.eventually("the failure is told", func() bool { return len(w.toldOf(bad)) == 1 })
	w.failing(nil)
	w.tells("image", bad, "image.failed")
	// An upload that turns out to be another is gone at once.
	size := len(qcow2File(t))
	upload := decode[vm.Image](t, w.do(http.MethodPost, "/api/v1/images", object{"name": "parts", "size_bytes": size, "checksum": strings.Repeat("0", 64)}), http.StatusCreated).ID
	w.part(upload, 0, qcow2File(t))
	w.tells("upload", upload, "image.failed")
	if _, facts := w.last(upload); facts["code"] != "image.checksum_mismatch" {
		t.Errorf("refused: %v", facts)
	}
}

// Webhooks choose by type, by kind, or take all; those from before go on getting what they chose.
func TestWebhooksChooseObjects(t *testing.T) {
	w := newHookWorld(t)
	machines, volumes, one := newReceiver(t), newReceiver(t), newReceiver(t)
	w.hook(w.tenant, object{"name": "machines", "url": machines.URL, "events": []string{"vm.*"}})
	w.hook(w.tenant, object{"name": "volumes", "url": volumes.URL, "events": []string{"volume.*"}})
	w.hook(w.tenant, object{"name": "one", "url": one.URL, "events": []string{"image.created", "deleted"}})
	for _, bad := range []string{"spoon.*", "volume", "volume.exploded", ".*", "volume.*.*"} {
		w.fails(http.MethodPost, "/api/v1/webhooks", object{"name": "bad", "url": one.URL, "events": []string{bad}}, http.StatusUnprocessableEntity, "webhook.invalid")
	}
	image := w.ready(w.image().ID).ID
	volume := w.newVolume("data-1")
	w.create("web-1", image)
	w.succeeds(http.MethodDelete, w.volumePath(volume), nil)
	bodies := func(r *receiver) (got []string) {
		for _, d := range r.all() {
			var e vm.Event
			if err := json.Unmarshal([]byte(d.body), &e); err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Type)
		}
		slices.Sort(got)
		return got
	}
	for _, want := range []struct {
		of  *receiver
		all []string
	}{{machines, []string{"created", "started"}}, {volumes, []string{"volume.created", "volume.deleted"}}, {one, []string{"image.created"}}} {
		w.eventually("all arrive", func() bool { return len(want.of.all()) >= len(want.all) })
		if got := bodies(want.of); !slices.Equal(got, want.all) {
			t.Errorf("arrived %v, want %v", got, want.all)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
