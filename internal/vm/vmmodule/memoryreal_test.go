package vmmodule

import (
	"net/http"
	"strings"
	"testing"
)

// TestRealMemoryGrowth: a guest that runs is given more memory and uses it, and has it as plain memory after it was off.
func TestRealMemoryGrowth(t *testing.T) {
	w, h := realWorld(t)
	body := createRequest("grows", w.demoImage().ID)
	body["resources"] = object{"vcpus": 1, "memory_mib": 1024, "disk_gib": 1}
	body["user_data"] = "#!/bin/sh\ncat /sys/devices/system/memory/auto_online_blocks\nwhile sleep 1; do awk '/MemTotal/ {print \"MEMORY-\" ($2 > 1300000 ? \"LARGE\" : \"SMALL\")}' /proc/meminfo; done &\n"
	done := decode[op](t, w.do(http.MethodPost, "/api/v1/vms?wait=120s", body), http.StatusOK)
	id, path, name := done.TargetID, w.vmPath(done.TargetID), "nova-"+done.TargetID.String()
	w.says(id, "MEMORY-SMALL")
	w.succeeds(http.MethodPost, path+"/resize", object{"memory_mib": 1536})
	w.says(id, "MEMORY-LARGE")
	if m := w.get(id); len(m.Pending) != 0 || m.Resources.MemoryMiB != 1536 {
		t.Errorf("it has %+v, and waits for %+v", m.Resources, m.Pending)
	}
	if xml := h.Virsh(t, "dumpxml", "--inactive", name); strings.Contains(xml, "<memory model") || !strings.Contains(xml, "<memory unit='KiB'>1572864</memory>") {
		t.Errorf("its definition is %s", xml)
	}
	if r := w.audit(); len(r.Findings) != 0 {
		t.Errorf("it is taken for drift: %+v", r.Findings)
	}

	// It keeps what it was given through suspension and snapshots of its memory.
	plugged := func(after string, want bool) {
		t.Helper()
		if xml := h.Virsh(t, "dumpxml", name); strings.Contains(xml, "<memory model='dimm'") != want {
			t.Errorf("after %s: %s", after, xml)
		}
	}
	plugged("the resize", true)
	w.succeeds(http.MethodPost, path+"/suspend", nil)
	w.succeeds(http.MethodPost, path+"/start", nil)
	plugged("suspension", true)
	n := w.take(id, object{"memory": true})
	w.succeeds(http.MethodPost, path+"/snapshots/"+n.ID.String()+"/revert", nil)
	plugged("going back to a snapshot", true)
	w.succeeds(http.MethodPost, path+"/stop", object{"force": true})
	w.succeeds(http.MethodPost, path+"/start", nil)
	plugged("its next start", false)
	w.succeeds(http.MethodDelete, path, nil)
}
