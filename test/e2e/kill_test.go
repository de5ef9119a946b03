package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// The whole process is killed at every point of the create and the delete saga. Within 30 s of the restart nothing is stuck, and what
// is left can be deleted without a trace.
func TestKillAtEveryStep(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes")
	}
	s := newSite(t)
	s.start()
	s.upload()
	s.delete(s.create("warm-up").TargetID) // the image is converted and in the node's cache
	whens := []string{"after do"}
	if os.Getenv("NOVACRON_TEST_SOAK") != "" {
		whens = []string{"before do", "after do"}
	}
	for _, when := range whens {
		for _, step := range []string{"place", "image", "network", "disk", "seed", "define", "start"} {
			t.Run("create "+step+" "+when, func(t *testing.T) { s.killDuring(t, "vm.create/"+step+"/"+when, false) })
		}
		for _, step := range []string{"remove", "volumes", "snapshots", "release"} {
			t.Run("delete "+step+" "+when, func(t *testing.T) { s.killDuring(t, "vm.delete/"+step+"/"+when, true) })
		}
	}
}

func (s *site) killDuring(t *testing.T, point string, deleting bool) {
	outer := s.t
	s.t = t
	defer func() { s.t = outer }()
	marker := filepath.Join(t.TempDir(), "killed")
	s.stop()
	s.start("NOVACRON_TEST_KILL="+point, "NOVACRON_TEST_KILLED="+marker)
	method, path, body := http.MethodPost, "/api/v1/vms", any(s.request("victim"))
	if deleting {
		method, path, body = http.MethodDelete, "/api/v1/vms/"+s.create("victim").TargetID, nil
	}
	var op operation
	// The process may die before it has answered; the key of a client that repeats would find the operation. Here the list does.
	s.call(method, path, body, &op)
	s.killed(point)
	s.start("NOVACRON_TEST_KILL="+point, "NOVACRON_TEST_KILLED="+marker)
	restarted := time.Now()
	if op.ID == "" {
		var list struct{ Items []operation }
		s.must(s.call(http.MethodGet, "/api/v1/operations?limit=1", nil, &list), http.StatusOK)
		op = list.Items[0]
	}
	s.must(s.call(http.MethodGet, "/api/v1/operations/"+op.ID+"?wait=60s", nil, &op), http.StatusOK)
	if took := time.Since(restarted); took > 30*time.Second {
		t.Errorf("the operation ended %v after the restart; the server says:\n%s", took, tail(s.log.String(), 60))
	}
	if op.Status != "succeeded" {
		t.Errorf("the operation ended as %+v", op)
	}
	if !deleting {
		if m := s.get(op.TargetID); m.State != "running" {
			t.Errorf("the virtual machine is %s", m.State)
		}
		s.delete(op.TargetID)
	}
	s.nothingLeft()
}

// killed waits until the server has been killed.
func (s *site) killed(point string) {
	s.t.Helper()
	late := time.AfterFunc(patience, func() { _ = s.server.Process.Signal(syscall.SIGTERM) })
	defer late.Stop()
	if err := s.server.Wait(); err == nil || s.server.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		s.t.Fatalf("the server was not killed at %s: %v; it says:\n%s", point, s.server.ProcessState, tail(s.log.String(), 60))
	}
}
