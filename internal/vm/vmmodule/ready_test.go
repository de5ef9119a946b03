package vmmodule

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/driver/fake"
)

// A guest is ready when its agent answers and cloud-init is done, once for each time that it comes on.
func TestGuestsTellThatTheyAreReady(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.image().ID).TargetID
	var done atomic.Bool
	answer := func(command string, arguments json.RawMessage) ([]byte, error) {
		var file struct{ Path string }
		_ = json.Unmarshal(arguments, &file) // other commands have none
		switch {
		case command == "guest-file-close":
			return []byte(`{"return":{}}`), nil
		case command == "guest-file-open" && (strings.HasSuffix(file.Path, "/status.json") || done.Load()):
			return []byte(`{"return":7}`), nil
		}
		return nil, &driver.AgentRefusal{Message: "No such file or directory"}
	}
	w.driver.SetAgentAnswer(id, answer)
	asked := func() bool { return slices.Contains(w.driver.Calls(), "AskAgent "+id.String()) }
	w.eventually("the guest is asked", asked)
	if m := w.get(id); m.ReadyAt != nil {
		t.Errorf("ready at %v, while cloud-init is at work", m.ReadyAt)
	}
	ready := func() bool { return w.get(id).ReadyAt != nil }
	finished := time.Now()
	done.Store(true)
	w.eventually("the guest is ready", ready)
	first := *w.get(id).ReadyAt
	if first.Before(finished) {
		t.Errorf("ready at %v, and cloud-init was done at %v", first, finished)
	}

	// What the node told stays told when it starts anew, and when the guest is paused.
	w.restartNode()
	w.act(id, "pause", nil)
	w.act(id, "resume", nil)
	if m := w.get(id); m.ReadyAt == nil || !m.ReadyAt.Equal(first) {
		t.Errorf("ready at %v, before at %v", m.ReadyAt, first)
	}
	w.act(id, "stop", map[string]any{"force": true})
	if m := w.get(id); m.ReadyAt != nil {
		t.Error("ready while it is off")
	}
	w.act(id, "start", nil)
	w.driver.SetAgentAnswer(id, answer)
	w.eventually("the guest is ready again", ready)
	var events struct{ Items []vm.Event }
	count := func() (n int) {
		events.Items = nil
		events = decode[struct{ Items []vm.Event }](t, w.do(http.MethodGet, "/api/v1/events?type=ready&vm_id="+id.String(), nil, "Accept", "application/json"), http.StatusOK)
		return len(events.Items)
	}
	w.eventually("both times were told", func() bool { return count() == 2 })

	// It goes off and on while the node's service is down, and cloud-init begins anew: what it told before is of another boot.
	done.Store(false)
	decode[vm.VM](t, w.do(http.MethodPatch, vmPath(id), map[string]any{"watchdog": map[string]any{"model": "i6300esb"}}), http.StatusOK)
	if m := w.get(id); len(m.Pending) != 1 {
		t.Errorf("pending: %+v", m.Pending)
	}
	w.restartNode(func() {
		w.driver.Set(id, "stopped", "shutdown", true)
		w.driver.Set(id, "running", "booted", true)
	})
	w.eventually("the node tells of another boot", func() bool { return w.get(id).ReadyAt == nil })
	if m := w.get(id); m.State != vm.StateRunning || len(m.Pending) != 0 {
		t.Errorf("the machine is %s, and has yet to take up %+v", m.State, m.Pending)
	}
	done.Store(true)
	w.eventually("the guest is ready after that, too", func() bool { return ready() && count() == 3 })

	// The same where the service is there and no event tells.
	done.Store(false)
	w.driver.Set(id, "stopped", "shutdown", true)
	w.driver.Set(id, "running", "booted", true)
	w.eventually("the poll finds another boot", func() bool { return w.get(id).ReadyAt == nil })
	done.Store(true)
	w.eventually("the guest is ready once more", func() bool { return ready() && count() == 4 })

	// A guest without cloud-init is ready when its agent answers; one that hangs never is, and holds up nobody.
	plain, hung := w.create("web-2", w.image().ID).TargetID, w.create("web-3", w.image().ID).TargetID
	w.driver.SetAgent(hung, fake.HungAgent)
	w.driver.SetAgentAnswer(plain, func(string, json.RawMessage) ([]byte, error) {
		return nil, &driver.AgentRefusal{Message: "Command guest-file-open has been disabled"}
	})
	w.eventually("the guest without cloud-init is ready", func() bool { return w.get(plain).ReadyAt != nil })
	if w.get(hung).ReadyAt != nil {
		t.Error("a guest whose agent hangs is ready")
	}

	// What an agent may not read is not taken for not there.
	kept := w.create("web-4", w.image().ID).TargetID
	var opened atomic.Int32
	w.driver.SetAgentAnswer(kept, func(_ string, arguments json.RawMessage) ([]byte, error) {
		if strings.Contains(string(arguments), "/run/cloud-init/") {
			opened.Add(1)
			return nil, &driver.AgentRefusal{Message: "Permission denied"}
		}
		return nil, &driver.AgentRefusal{Message: "No such file or directory"}
	})
	w.eventually("the agent is asked for both files, twice", func() bool { return opened.Load() >= 4 })
	if w.get(kept).ReadyAt != nil {
		t.Error("a guest is ready whose agent may not read what cloud-init says")
	}
}
