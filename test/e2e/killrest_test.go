package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The process is killed at every step of what changes the power, the settings and the interfaces of a machine, and of what makes and changes
// networks. After the restart the operation is finished, virsh agrees, and nothing is left. It takes a long time, so it is a part of the soak.
func TestKillAtStepsOfTheRest(t *testing.T) {
	if os.Getenv("NOVACRON_TEST_SOAK") == "" {
		t.Skip("a part of the soak")
	}
	s := newSite(t)
	s.start()
	s.upload()
	provision := []string{"place", "image", "network", "disk", "seed", "define"}
	with := func(last ...string) []string { return append(append([]string{}, provision...), last...) }
	for _, k := range []struct {
		kind, before string // before: what is done to the machine first
		method, path string // {vm} is the machine, {nic} its second interface, {net} a network
		body         any
		steps        []string
		state        string // of the machine afterwards
	}{
		{"vm.start", "stop", http.MethodPost, "/vms/{vm}/start", nil, with("stop", "start", "plug"), "running"},
		{"vm.stop", "", http.MethodPost, "/vms/{vm}/stop", map[string]any{"force": true}, with("stop"), "stopped"},
		{"vm.restart", "", http.MethodPost, "/vms/{vm}/restart", map[string]any{"force": true}, with("stop", "start"), "running"},
		{"vm.reset", "", http.MethodPost, "/vms/{vm}/reset", nil, []string{"plug", "reset"}, "running"},
		{"vm.pause", "", http.MethodPost, "/vms/{vm}/pause", nil, []string{"plug", "pause"}, "paused"},
		{"vm.resume", "pause", http.MethodPost, "/vms/{vm}/resume", nil, []string{"plug", "resume"}, "running"},
		{"vm.suspend", "", http.MethodPost, "/vms/{vm}/suspend", nil, []string{"plug", "suspend"}, "stopped"},
		{"vm.update", "", http.MethodPatch, "/vms/{vm}", map[string]any{"name": "renamed", "cpu": map[string]any{"cores": 1, "sockets": 1, "threads": 1}}, []string{"media", "define", "tune"}, "running"},
		{"vm.interface.attach", "", http.MethodPost, "/vms/{vm}/interfaces", map[string]any{}, []string{"network", "define", "interfaces"}, "running"},
		{"vm.interface.update", "nic", http.MethodPatch, "/vms/{vm}/interfaces/{nic}", map[string]any{"link": "down"}, []string{"network", "define", "interfaces"}, "running"},
		{"vm.interface.detach", "nic", http.MethodDelete, "/vms/{vm}/interfaces/{nic}", nil, []string{"network", "define", "interfaces"}, "running"},
		{"network.create", "", http.MethodPost, "/networks", map[string]any{"name": "more", "cidr": "10.214.2.0/24"}, []string{"ensure"}, "running"},
		{"network.update", "net", http.MethodPatch, "/networks/{net}", map[string]any{"dhcp": map[string]any{"start": "10.214.2.10", "end": "10.214.2.20"}}, []string{"ensure"}, "running"},
		{"network.delete", "net", http.MethodDelete, "/networks/{net}", nil, []string{"remove"}, "running"},
	} {
		for _, step := range k.steps {
			for _, when := range []string{"before do", "after do"} {
				point := k.kind + "/" + step + "/" + when
				t.Run(point, func(t *testing.T) {
					outer := s.t
					s.t = t
					defer func() { s.t = outer }()
					marker := filepath.Join(t.TempDir(), "killed")
					s.stop()
					s.start()
					id := s.create("victim").TargetID
					path := "/api/v1" + s.prepare(id, k.before, k.path)
					s.stop()
					s.start("NOVACRON_TEST_KILL="+point, "NOVACRON_TEST_KILLED="+marker)
					s.call(k.method, path, k.body, nil)
					s.killed(point)
					s.start("NOVACRON_TEST_KILL="+point, "NOVACRON_TEST_KILLED="+marker)
					var list struct{ Items []operation }
					s.must(s.call(http.MethodGet, "/api/v1/operations?limit=1&kind="+k.kind, nil, &list), http.StatusOK)
					var op operation
					s.must(s.call(http.MethodGet, "/api/v1/operations/"+list.Items[0].ID+"?wait=80s", nil, &op), http.StatusOK)
					if op.Status != "succeeded" {
						t.Errorf("the operation ended as %+v", op)
					}
					says := map[string]string{"running": "running", "stopped": "shut off", "paused": "paused"}[k.state]
					if out := strings.TrimSpace(s.host.Virsh(t, "domstate", "nova-"+id)); out != says || s.get(id).State != k.state {
						t.Errorf("virsh says %q, the machine is %s", out, s.get(id).State)
					}
					s.delete(id)
					s.dropNetwork()
					s.nothingLeft()
				})
			}
		}
	}
}

// prepare brings a machine to where an operation begins, and fills in the path of its request.
func (s *site) prepare(id, what, path string) string {
	s.t.Helper()
	base := "/api/v1/vms/" + id
	var op operation
	switch what {
	case "stop":
		s.must(s.call(http.MethodPost, base+"/stop?wait=60s", map[string]any{"force": true}, &op), http.StatusOK)
	case "pause":
		s.must(s.call(http.MethodPost, base+"/pause?wait=60s", nil, &op), http.StatusOK)
	case "nic":
		s.must(s.call(http.MethodPost, base+"/interfaces?wait=60s", map[string]any{}, &op), http.StatusOK)
		var list struct{ Items []struct{ ID string } }
		s.must(s.call(http.MethodGet, base+"/interfaces", nil, &list), http.StatusOK)
		path = strings.ReplaceAll(path, "{nic}", list.Items[1].ID)
	case "net":
		var made struct{ ID string }
		s.must(s.call(http.MethodPost, "/api/v1/networks", map[string]any{"name": "more", "cidr": "10.214.2.0/24"}, &made), http.StatusCreated)
		path = strings.ReplaceAll(path, "{net}", made.ID)
	}
	if op.ID != "" && op.Status != "succeeded" {
		s.t.Fatalf("%s ended as %+v", what, op)
	}
	return strings.ReplaceAll(path, "{vm}", id)
}

// dropNetwork deletes the network that a case has made, and checks that libvirt has forgotten it.
func (s *site) dropNetwork() {
	s.t.Helper()
	var list struct{ Items []struct{ ID, Name string } }
	s.must(s.call(http.MethodGet, "/api/v1/networks", nil, &list), http.StatusOK)
	for _, n := range list.Items {
		if n.Name == "more" {
			s.must(s.call(http.MethodDelete, "/api/v1/networks/"+n.ID+"?wait=60s", nil, nil), http.StatusOK)
		}
	}
	if out := s.host.Virsh(s.t, "net-list", "--all", "--name"); len(strings.Fields(out)) > 1 {
		s.t.Errorf("networks are left: %s", out)
	}
}
