package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"
)

// TestLibvirtdDiesUnderWork kills libvirtd while it is asked to define or to start something: with the request before it, at which it is held, and as
// soon as the step is seen. The operation ends, done or undone, and the machine obeys afterwards.
func TestLibvirtdDiesUnderWork(t *testing.T) {
	s := newSite(t)
	s.start()
	s.upload()
	off := s.create("web-1").TargetID
	for _, test := range []struct {
		step   string
		create bool // by a creation; else by a start
		held   bool
	}{{"network", true, true}, {"network", false, true}, {"define", true, false}, {"define", false, false}, {"start", true, false}, {"start", false, true}} {
		t.Run(fmt.Sprintf("%s, create %v, held %v", test.step, test.create, test.held), func(t *testing.T) {
			outer := s.t
			s.t = t
			defer func() { s.t = outer }()
			s.ends(off, "stop", map[string]any{"force": true})
			method, path, body := http.MethodPost, "/api/v1/vms/"+off+"/start", any(nil)
			if test.create {
				path, body = "/api/v1/vms", s.request("victim")
			}
			hold := func() { s.host.Run(t, "bash", "-c", "kill -STOP $(cat /run/libvirtd.pid)") }
			if test.held && test.step == "network" { // the first step that asks libvirtd
				hold()
			}
			var op steps
			s.must(s.call(method, path, body, &op), http.StatusAccepted)
			s.within(2*patience, "the step "+test.step+" runs", func() bool {
				s.must(s.call(http.MethodGet, "/api/v1/operations/"+op.ID, nil, &op), http.StatusOK)
				return op.reached(test.step)
			})
			if test.held && test.step != "network" {
				hold()
			}
			s.host.KillLibvirtd(t)
			s.host.StartLibvirtd(t)
			s.must(s.call(http.MethodGet, "/api/v1/operations/"+op.ID+"?wait=100s", nil, &op), http.StatusOK)
			if op.Status != "succeeded" && op.Status != "failed" {
				t.Fatalf("the operation is %+v", op)
			}
			t.Logf("it %s: %+v", op.Status, op.Error)
			a := s.call(http.MethodGet, "/api/v1/vms/"+op.TargetID, nil, nil)
			if gone := test.create && op.Status == "failed"; !gone || a.status != http.StatusNotFound {
				s.must(a, http.StatusOK)
				s.settles(op.TargetID)
			}
			if test.create && a.status == http.StatusOK {
				s.delete(op.TargetID)
			}
		})
	}
	s.delete(off)
	s.nothingLeft()
}

// TestOpposingIntentsOnLibvirt asks a real guest for what opposes, in random order and without waiting; the last one that was taken counts. The soak
// does so for longer.
func TestOpposingIntentsOnLibvirt(t *testing.T) {
	s := newSite(t)
	s.start()
	s.upload()
	rounds := 3
	if os.Getenv("NOVACRON_TEST_SOAK") != "" {
		rounds = 60
	}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range rounds {
		id := s.create("victim").TargetID
		base := "/api/v1/vms/" + id
		requests := []struct {
			method, path string
			body         any
		}{{http.MethodPost, base + "/start", nil}, {http.MethodPost, base + "/stop", map[string]any{"force": true}},
			{http.MethodPost, base + "/resize", map[string]any{"memory_mib": 160}}, {http.MethodPost, base + "/resize", map[string]any{"memory_mib": 224, "vcpus": 2}},
			{http.MethodDelete, base, nil}}
		var did []string
		var last operation
		for range 6 {
			r := requests[random.IntN(len(requests))]
			var op operation
			a := s.call(r.method, r.path, r.body, &op)
			did = append(did, fmt.Sprint(r.method, strings.TrimPrefix(r.path, base), " ", a.status))
			switch a.status {
			case http.StatusAccepted:
				last = op
			case http.StatusConflict, http.StatusLocked: // which is an answer, and nothing begins
			case http.StatusNotFound: // it is deleted already
			default:
				t.Fatalf("seed %d, round %d, %v: %s", seed, round, did, a.body)
			}
		}
		if last.ID != "" {
			s.must(s.call(http.MethodGet, "/api/v1/operations/"+last.ID+"?wait=100s", nil, &last), http.StatusOK)
			if last.Status != "succeeded" {
				t.Fatalf("seed %d, round %d, %v: the last ended as %+v", seed, round, did, last)
			}
		}
		if a := s.call(http.MethodGet, base, nil, nil); a.status != http.StatusNotFound {
			s.must(a, http.StatusOK)
			s.settles(id)
			s.delete(id)
		}
		s.nothingLeft()
		if t.Failed() {
			t.Fatalf("seed %d, round %d, %v", seed, round, did)
		}
	}
}

// steps is an operation with what it does.
type steps struct {
	operation
	Steps []struct{ Name, Status string } `json:"steps"`
}

// reached tells whether a step has begun, or can no more.
func (o steps) reached(name string) bool {
	for _, step := range o.Steps {
		if step.Name == name && step.Status != "pending" {
			return true
		}
	}
	return o.Status != "running" && o.Status != "pending"
}

// ends asks a machine for something and waits until it is so.
func (s *site) ends(id, verb string, body any) {
	s.t.Helper()
	var op operation
	s.must(s.call(http.MethodPost, "/api/v1/vms/"+id+"/"+verb+"?wait=100s", body, &op), http.StatusOK)
	if op.Status != "succeeded" {
		s.t.Fatalf("%s ended as %+v", verb, op)
	}
}

// settles checks that nothing holds a machine, that it is what virsh says, and that it obeys.
func (s *site) settles(id string) {
	s.t.Helper()
	agrees := func() bool {
		m := s.get(id)
		said := strings.TrimSpace(s.host.Virsh(s.t, "domstate", "nova-"+id))
		return m.OperationID == nil && (m.State == "running" && said == "running" || m.State == "stopped" && said == "shut off")
	}
	s.eventually("the machine is what virsh says, and nothing holds it", agrees)
	s.ends(id, "stop", map[string]any{"force": true})
	s.ends(id, "start", nil)
	s.eventually("it has started", agrees)
}
