package vmmodule

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// points gives every point of the steps that an operation had.
func (o op) points() (points [][2]string) {
	for _, step := range o.Steps {
		points = append(points, [2]string{step.Name, "before do"}, [2]string{step.Name, "after do"})
	}
	return points
}

// Every point of what powers a machine on, off and anew fails in turn. The machine is then what its guest is, nothing holds it, and it can be
// started.
func TestPowerFailsAtEveryPoint(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.image().ID).TargetID
	books := w.held(id)
	for _, saga := range []struct{ verb, before string }{
		{"start", "stop"}, {"stop", ""}, {"restart", ""}, {"reset", ""}, {"pause", ""}, {"resume", "pause"},
	} {
		prepare := func(t *testing.T) {
			t.Helper()
			w.failing(nil)
			if w.get(id).State == vm.StatePaused {
				w.act(id, "resume", nil)
			}
			for _, verb := range []string{"start", saga.before} {
				if verb == "" {
					continue
				}
				if done := w.act(id, verb, nil); done.Status != "succeeded" {
					t.Fatalf("%s ended as %+v", verb, done.Error)
				}
			}
		}
		prepare(t)
		whole := w.act(id, saga.verb, nil)
		if whole.Status != "succeeded" || len(whole.Steps) < 2 {
			t.Fatalf("%s ended as %+v", saga.verb, whole)
		}
		for _, point := range whole.points() {
			t.Run(saga.verb+" "+point[1]+" "+point[0], func(t *testing.T) {
				prepare(t)
				w.failAt("vm."+saga.verb, point[0], point[1])
				failed := w.act(id, saga.verb, nil)
				if failed.Status != "failed" || failed.Error.Code != "test.broken" || failed.Error.Step != point[0] {
					t.Errorf("ended as %+v %+v", failed, failed.Error)
				}
				guest, err := w.driver.Status(t.Context(), id)
				want := map[nodeapi.Observed]vm.State{nodeapi.ObservedRunning: vm.StateRunning, nodeapi.ObservedStopped: vm.StateStopped,
					nodeapi.ObservedPaused: vm.StatePaused}[guest.Observed]
				w.eventually("it shows what its guest is", func() bool { return w.get(id).State == want })
				m := w.get(id)
				if err != nil || want == "" || m.OperationID != nil || string(m.DesiredState) != string(want) {
					t.Errorf("it is %s, to be %s, held by %v; the guest is %s %v", m.State, m.DesiredState, m.OperationID, guest.Observed, err)
				}
				if now := w.held(id); now.VCPUs != books.VCPUs || now.MemoryBytes != books.MemoryBytes || now.StorageBytes != books.StorageBytes {
					t.Errorf("holds %+v, held %+v", now, books)
				}
			})
		}
	}
	w.failing(nil)
	w.succeeds(http.MethodDelete, w.vmPath(id), nil)
	w.nothingLeft()
}

// Every point of the sagas of networks fails in turn; what was before is as it was.
func TestNetworksFailAtEveryPoint(t *testing.T) {
	w := newWorld(t)
	const networks = "/api/v1/networks"
	kept := decode[vm.Network](t, w.do(http.MethodPost, networks, object{"name": "kept", "cidr": "10.77.1.0/24"}), http.StatusCreated)
	one := networks + "/" + kept.ID.String()
	unchanged := func(t *testing.T) {
		t.Helper()
		list := decode[struct{ Items []vm.Network }](t, w.do(http.MethodGet, networks, nil), http.StatusOK).Items
		if len(list) != 1 || list[0].Name != "kept" || list[0].DHCP == nil || *list[0].DHCP != *kept.DHCP || list[0].Status != vm.NetworkActive {
			t.Errorf("networks %+v", list)
		}
		if live, err := w.driver.ListNetworks(t.Context()); err != nil || len(live) != 1 || live[0].ID != kept.ID {
			t.Errorf("the node has %+v, %v", live, err)
		}
	}
	for _, when := range []string{"before do", "after do"} {
		t.Run("create "+when, func(t *testing.T) {
			w.failAt("network.create", "ensure", when)
			w.problem(http.MethodPost, networks, object{"name": "more", "cidr": "10.77.2.0/24"}, http.StatusConflict, "test.broken")
			unchanged(t)
		})
		t.Run("update "+when, func(t *testing.T) {
			w.failAt("network.update", "ensure", when)
			w.problem(http.MethodPatch, one, object{"name": "other", "dhcp": object{"start": "10.77.1.50", "end": "10.77.1.60"}}, http.StatusConflict, "test.broken")
			unchanged(t)
		})
		t.Run("delete "+when, func(t *testing.T) {
			gone := decode[vm.Network](t, w.do(http.MethodPost, networks, object{"name": "gone", "cidr": "10.77.2.0/24"}), http.StatusCreated)
			w.failAt("network.delete", "remove", when)
			w.succeeds(http.MethodDelete, networks+"/"+gone.ID.String(), nil) // it is tried again
			unchanged(t)
		})
	}
	t.Run("the name before is taken", func(t *testing.T) {
		w.failing(func(kind, _, when string) error {
			if kind == "network.update" && when == "after do" {
				decode[vm.Network](t, w.do(http.MethodPost, networks, object{"name": "kept", "cidr": "10.77.3.0/24"}), http.StatusCreated)
				return errBroken
			}
			return nil
		})
		w.problem(http.MethodPatch, one, object{"name": "other", "dhcp": object{"start": "10.77.1.50", "end": "10.77.1.60"}}, http.StatusConflict, "test.broken")
		w.failing(nil)
		if n := decode[vm.Network](t, w.do(http.MethodGet, one, nil), http.StatusOK); n.Name != "other" || *n.DHCP != *kept.DHCP || n.Status != vm.NetworkActive {
			t.Errorf("it is %+v", n)
		}
	})
	w.failing(nil)
	w.succeeds(http.MethodDelete, one, nil)
}

// Every point of the sagas of images fails in turn: the image says so, and no file of it is left.
func TestImagesFailAtEveryPoint(t *testing.T) {
	content := qcow2File(t)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(content))
	}))
	defer server.Close()
	w := newWorldWith(t, func(_ *world, cfg *Config) {
		cfg.ImportHosts, cfg.ImportNetworks = []string{"127.0.0.1"}, []string{"127.0.0.0/8"}
	})
	begin := map[string]func(t *testing.T) uuid.UUID{
		"image.import": func(t *testing.T) uuid.UUID {
			return decode[vm.Image](t, w.do(http.MethodPost, "/api/v1/images?name=a&wait=60s", content, "Content-Type", "application/octet-stream"), http.StatusCreated).ID
		},
		"image.fetch": func(*testing.T) uuid.UUID {
			return w.ended(http.MethodPost, "/api/v1/images", object{"name": "a", "url": server.URL}).TargetID
		},
	}
	for kind, steps := range map[string][]string{"image.import": {"convert", "publish"}, "image.fetch": {"fetch", "screen", "convert", "publish"}} {
		for _, step := range steps {
			for _, when := range []string{"before do", "after do"} {
				t.Run(kind+" "+when+" "+step, func(t *testing.T) {
					w.failAt(kind, step, when)
					id := begin[kind](t)
					w.failing(nil)
					image := w.getImage(id)
					if image.Status != vm.ImageFailed || image.Error == nil || image.Error.Code != "test.broken" || image.OperationID != nil {
						t.Errorf("the image is %+v", image)
					}
					w.noFiles(id)
					if p := decode[errs.Problem](t, w.do(http.MethodPost, "/api/v1/vms", createRequest("web-1", id)), http.StatusConflict); p.Code != "image.failed" {
						t.Errorf("a machine of it: %s", p.Code)
					}
					if rec := w.do(http.MethodDelete, "/api/v1/images/"+id.String(), nil); rec.Code != http.StatusNoContent {
						t.Errorf("it cannot be deleted: %s", rec.Body)
					}
				})
			}
		}
	}
	w.nothingLeft()
}
