package vmmodule

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// healing makes a world in which remedies are applied as soon as an audit finds a difference.
func healing(t *testing.T, change func(*Config)) *world {
	t.Helper()
	return newWorldWith(t, func(_ *world, c *Config) {
		c.DriftInterval, c.DriftGrace = time.Second, 0
		change(c)
	})
}

func (w *world) audit() vm.DriftReport {
	w.t.Helper()
	return decode[vm.DriftReport](w.t, w.doAs(onPlatform("*"), http.MethodGet, "/api/v1/audit/drift", nil), http.StatusOK)
}

// actOn asks for an action on one object, and answers the code of its error.
func (w *world) actOn(action vm.DriftAction, id uuid.UUID, more object) string {
	w.t.Helper()
	body := object{"action": action, "object_ids": []uuid.UUID{id}}
	for k, v := range more {
		body[k] = v
	}
	r := decode[vm.DriftResults](w.t, w.doAs(onPlatform("*"), http.MethodPost, "/api/v1/audit/drift", body), http.StatusOK)
	if len(r.Results) != 1 || r.Results[0].ObjectID != id || r.Results[0].Done != (r.Results[0].Error == nil) {
		w.t.Fatalf("%s: %+v", action, r)
	}
	if r.Results[0].Error != nil {
		return r.Results[0].Error.Code
	}
	return ""
}

func (w *world) setAside(id uuid.UUID) string {
	return filepath.Join(w.dir, "node", "quarantine", id.String())
}

// behind changes the database as somebody does who is not NovaCron.
func (w *world) behind(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.vm.controller.pool.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

// A database that was restored from an older backup knows less than the hosts hold. Nothing of that is lost: it is set aside, and comes back whole
// when its rows do.
func TestWhatLostItsRowComesBack(t *testing.T) {
	w := healing(t, func(*Config) {})
	id, volume := w.create("web-1", w.image().ID).TargetID, w.newVolume("data-1")
	writeTo(t, w.volumeFile(w.volume(volume)), "0x55")
	w.succeeds(http.MethodPost, w.vmPath(id)+"/stop", map[string]any{"force": true})
	writeTo(t, w.rootOf(id), "0x66")
	file, root := w.volumeFile(w.volume(volume)), w.rootOf(id)
	before := map[string]string{file: sum(t, file), root: sum(t, root)}

	w.driver.Fail("Undefine", errors.New("libvirtd is away"))
	for _, table := range []string{"vms", "volumes"} {
		w.behind(fmt.Sprintf("CREATE TABLE lost_%s AS SELECT * FROM %s WHERE id = ANY ($1)", table, table), []uuid.UUID{id, volume})
		w.behind(fmt.Sprintf("DELETE FROM %s WHERE id = ANY ($1)", table), []uuid.UUID{id, volume})
	}
	w.eventually("the volume is set aside", func() bool {
		_, err := os.Stat(filepath.Join(w.setAside(volume), filepath.Base(file)))
		return err == nil
	})
	w.eventually("the machine is noted", func() bool { _, err := os.Stat(filepath.Join(w.setAside(id), "definition.xml")); return err == nil })
	w.driver.Fail("Undefine", nil)
	aside := filepath.Join(w.setAside(id), "files", "root.qcow2")
	w.eventually("the machine is set aside", func() bool { _, err := os.Stat(aside); return err == nil })
	if _, err := os.Stat(root); !os.IsNotExist(err) {
		t.Errorf("its folder is still there: %v", err)
	}
	if definition, err := os.ReadFile(filepath.Join(w.setAside(id), "definition.xml")); err != nil || !strings.Contains(string(definition), id.String()) {
		t.Errorf("its definition is %q, %v", definition, err)
	}
	if domains, err := w.driver.List(t.Context()); err != nil || len(domains) != 0 {
		t.Errorf("domains %v, %v", domains, err)
	}
	r := w.audit()
	kinds := map[uuid.UUID]string{}
	for _, q := range r.Quarantined {
		kinds[q.ObjectID] = q.Kind
		if q.Known || q.ReapAt != nil || q.Bytes == 0 || time.Since(q.QuarantinedAt) > time.Hour {
			t.Errorf("set aside as %+v", q)
		}
	}
	if len(kinds) != 2 || kinds[id] != "vm" || kinds[volume] != "volume" {
		t.Errorf("set aside are %+v", r.Quarantined)
	}
	for _, f := range r.Findings { // their places are kept for them
		if f.Kind != vm.DriftAllocationLeaked || f.Held == "" || f.DueAt != nil {
			t.Errorf("found %+v", f)
		}
	}
	if code := w.actOn(vm.DriftActRestore, id, nil); code != "drift.unknown_object" {
		t.Errorf("restore without a row: %q", code)
	}

	for _, table := range []string{"vms", "volumes"} {
		w.behind(fmt.Sprintf("INSERT INTO %s SELECT * FROM lost_%s", table, table))
		w.behind("DROP TABLE lost_" + table)
	}
	if code := w.actOn(vm.DriftActReap, id, nil); code != "drift.known_object" {
		t.Errorf("reap of what a row knows: %q", code)
	}
	if code := w.actOn(vm.DriftActRestore, id, object{"dry_run": true}); code != "" {
		t.Errorf("dry run: %q", code)
	}
	if _, err := os.Stat(aside); err != nil {
		t.Errorf("a dry run has moved it: %v", err)
	}
	for _, object := range []uuid.UUID{id, volume} {
		if code := w.actOn(vm.DriftActRestore, object, nil); code != "" {
			t.Fatalf("restore: %q", code)
		}
		if _, err := os.Stat(w.setAside(object)); !os.IsNotExist(err) {
			t.Errorf("something stays behind: %v", err)
		}
		if code := w.actOn(vm.DriftActRestore, object, nil); code != "drift.not_quarantined" {
			t.Errorf("restore again: %q", code)
		}
	}
	for path, want := range before {
		if got := sum(t, path); got != want {
			t.Errorf("%s has changed", path)
		}
	}
	if o := w.act(id, "start", nil); o.Status != "succeeded" {
		t.Fatalf("start: %+v", o)
	}
	w.eventually("nothing is found any more", func() bool { r := w.audit(); return len(r.Findings) == 0 && len(r.Quarantined) == 0 })
	w.succeeds(http.MethodDelete, w.vmPath(id), nil)
	w.succeeds(http.MethodDelete, "/api/v1/volumes/"+volume.String(), nil)
	w.nothingLeft()
}

func sum(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Many leaks at once are no leaks, and a guest that is on is not powered off, unless somebody asks for it.
func TestSomeDriftWaitsForAPerson(t *testing.T) {
	w := healing(t, func(c *Config) { c.DriftMaxPerNode = 2 })
	id := w.create("web-1", w.image().ID).TargetID
	w.behind("CREATE TABLE lost_vms AS SELECT * FROM vms WHERE id = $1", id)
	w.behind("DELETE FROM vms WHERE id = $1", id)
	volume := filepath.Join(w.dir, "node", "volumes", uuid.NewString()+".raw")
	if err := os.WriteFile(volume, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	find := func(object uuid.UUID) (found []vm.DriftFinding) {
		for _, f := range w.audit().Findings {
			if f.ObjectID == object {
				found = append(found, f)
			}
		}
		return found
	}
	w.eventually("three findings of it", func() bool { return len(find(id)) == 3 })
	for _, f := range w.audit().Findings {
		if f.Held == "" || f.DueAt != nil {
			t.Errorf("not held though a guest is on that no row knows: %+v", f)
		}
	}
	if code := w.actOn(vm.DriftActHeal, id, nil); code != "drift.guest_on" {
		t.Errorf("heal of a guest that is on: %q", code)
	}
	if code := w.actOn(vm.DriftActHeal, id, object{"force": true}); code != "" {
		t.Errorf("with force: %q", code)
	}
	w.eventually("the volume alone, which nobody can use now, is set aside", func() bool { return len(w.audit().Quarantined) == 2 })
	if _, err := os.Stat(volume); !os.IsNotExist(err) {
		t.Errorf("the volume: %v", err)
	}

	// Together these are more than two.
	leaks := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
	for _, leak := range leaks {
		if err := os.Mkdir(filepath.Join(w.dir, "node", "disks", leak.String()), 0o711); err != nil {
			t.Fatal(err)
		}
	}
	w.eventually("they are held", func() bool {
		r := w.audit()
		return len(leaks) == count(r.Findings, func(f vm.DriftFinding) bool { return strings.Contains(f.Held, "backup") && f.DueAt == nil })
	})
	if code := w.actOn(vm.DriftActHeal, leaks[0], nil); code != "" {
		t.Errorf("heal: %q", code)
	}
	w.eventually("the others follow, being few", func() bool { return len(w.audit().Quarantined) == 5 })
	for _, q := range w.audit().Quarantined {
		if code := w.actOn(vm.DriftActReap, q.ObjectID, nil); code != "" {
			t.Errorf("reap: %q", code)
		}
	}
	left, err := os.ReadDir(filepath.Join(w.dir, "node", "quarantine"))
	if err != nil || len(left) != 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	w.eventually("its place is given back", func() bool { return len(w.audit().Findings) == 0 })
	for _, id := range []uuid.UUID{id, uuid.New()} {
		if code := w.actOn(vm.DriftActHeal, id, nil); code != "drift.not_found" {
			t.Errorf("heal of what was not found: %q", code)
		}
	}
	w.nothingLeft()

	if rec := w.do(http.MethodPost, "/api/v1/audit/drift", object{"action": "heal", "object_ids": []uuid.UUID{id}}); rec.Code != http.StatusForbidden {
		t.Errorf("a tenant's own administrator gets %d: %s", rec.Code, rec.Body)
	}
	for _, body := range []object{{"action": "explode", "object_ids": []uuid.UUID{id}}, {"action": "heal", "object_ids": []uuid.UUID{}}, {"action": "reap", "object_ids": []string{"../../etc"}}} {
		if rec := w.doAs(onPlatform("*"), http.MethodPost, "/api/v1/audit/drift", body); rec.Code != http.StatusUnprocessableEntity && rec.Code != http.StatusBadRequest {
			t.Errorf("%v is answered with %d: %s", body, rec.Code, rec.Body)
		}
	}
}

func count[T any](list []T, is func(T) bool) (n int) {
	for _, v := range list {
		if is(v) {
			n++
		}
	}
	return n
}

// In mode reap, what was set aside for long enough goes for good; a network and a place that no row knows go in every mode but report.
func TestLeaksAreReaped(t *testing.T) {
	w := healing(t, func(c *Config) { c.DriftMode, c.DriftRetention = vm.DriftModeReap, 0 })
	stray := filepath.Join(w.dir, "node", "volumes", uuid.NewString()+".qcow2")
	if err := os.WriteFile(stray, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.eventually("it is gone for good", func() bool {
		_, err := os.Stat(stray)
		left, dirErr := os.ReadDir(filepath.Join(w.dir, "node", "quarantine"))
		return os.IsNotExist(err) && dirErr == nil && len(left) == 0
	})
}

// An edited definition is seen, told, shown at the machine, and given again.
func TestEditedDefinition(t *testing.T) {
	w := healing(t, func(c *Config) { c.DriftGrace = time.Hour })
	id := w.create("web-1", w.image().ID).TargetID
	if r := w.audit(); len(r.Findings) != 0 {
		t.Fatalf("found %+v", r.Findings)
	}
	tag := w.do(http.MethodGet, w.vmPath(id), nil).Header().Get("ETag")
	def := w.driver.Defined(id)
	def.VCPUs = 7
	if err := w.driver.Define(t.Context(), def); err != nil {
		t.Fatal(err)
	}
	r := w.audit()
	if len(r.Findings) != 1 || r.Findings[0].Kind != vm.DriftDefinitionEdited || !strings.Contains(r.Findings[0].Seen, "+ \"VCPUs\": 7") || r.Findings[0].Remedy != vm.RemedyRedefine {
		t.Fatalf("found %+v", r.Findings)
	}
	if due := r.Findings[0].DueAt; due == nil || !due.Equal(r.Findings[0].Since.Add(time.Hour)) {
		t.Errorf("due at %v", due)
	}
	if c := w.get(id).Conditions; len(c) != 1 || c[0].Type != vm.DriftDefinitionEdited || !strings.Contains(c[0].Message, "VCPUs") {
		t.Errorf("the machine shows %+v", c)
	}
	list := decode[struct{ Items []vm.VM }](t, w.do(http.MethodGet, "/api/v1/vms", nil), http.StatusOK)
	if len(list.Items) != 1 || len(list.Items[0].Conditions) != 1 {
		t.Errorf("the list shows %+v", list.Items)
	}
	if now := w.do(http.MethodGet, w.vmPath(id), nil).Header().Get("ETag"); now == tag {
		t.Error("what it shows has changed, and its ETag has not")
	}
	if code := w.actOn(vm.DriftActHeal, id, nil); code != "" {
		t.Fatalf("heal: %q", code)
	}
	w.eventually("it has its definition again", func() bool { return w.driver.Defined(id).VCPUs == 1 && w.get(id).OperationID == nil })
	w.eventually("nothing is found any more", func() bool { return len(w.audit().Findings) == 0 && len(w.get(id).Conditions) == 0 })
	if m := w.get(id); m.State != vm.StateRunning || m.Observed.State != string(nodeapi.ObservedRunning) {
		t.Errorf("it is %s", m.State)
	}
	var told []string
	for deadline := time.After(30 * time.Second); !slices.Contains(told, "drift_ended"); {
		select {
		case e := <-w.events:
			if strings.HasPrefix(e.Type, "drift") {
				told = append(told, e.Type)
			}
		case <-deadline:
			t.Fatalf("told so far: %v", told)
		}
	}
	if got := strings.Join(told, " "); got != "drifted drift_ended" {
		t.Errorf("told %s", got)
	}
}
