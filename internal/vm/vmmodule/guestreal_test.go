package vmmodule

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm"
)

// TestRealGuestAgent asks the real agent in a real guest, has it hang, and measures the guest.
func TestRealGuestAgent(t *testing.T) {
	var told []event.VMMetrics
	w, _ := realWorld(t)
	heard := make(chan event.VMMetrics, 100)
	if _, err := bus.NewTopic[event.VMMetrics](bus.SubjectVMMetrics).Subscribe(w.bus, bus.SubscribeOptions{}, func(_ context.Context, e event.VMMetrics) {
		select {
		case heard <- e:
		default:
		}
	}); err != nil {
		t.Fatal(err)
	}
	id := w.create("web-1", w.demoImage().ID).TargetID
	base := "/api/v1/vms/" + id.String() + "/guest"
	var info vm.GuestInfo
	w.eventually("the agent answers", func() bool {
		rec := w.do(http.MethodGet, base, nil)
		if rec.Code != http.StatusOK {
			return false
		}
		info = decode[vm.GuestInfo](t, rec, http.StatusOK)
		return true
	})
	if info.AgentVersion == "" || info.Hostname == "" || info.System.Kernel == "" || len(info.Commands) < 10 || len(info.Interfaces) == 0 {
		t.Errorf("info is %+v", info)
	}
	// run runs a shell command in the guest.
	run := func(command string) string {
		t.Helper()
		r := w.exec(id, map[string]any{"command": "sh", "args": []string{"-c", command}})
		if r.ExitCode == nil || *r.ExitCode != 0 {
			t.Fatalf("%s ended as %+v: %s %s", command, r, r.Stdout, r.Stderr)
		}
		return strings.TrimSpace(string(r.Stdout))
	}

	r := w.exec(id, map[string]any{"command": "sh", "args": []string{"-c", `cat; echo "$GREETING" >&2; exit 7`}, "env": map[string]string{"GREETING": "hello"}, "stdin": []byte("from outside")})
	if r.ExitCode == nil || *r.ExitCode != 7 || string(r.Stdout) != "from outside" || string(r.Stderr) != "hello\n" {
		t.Errorf("it ended as %+v: %s %s", r, r.Stdout, r.Stderr)
	}
	r = w.exec(id, map[string]any{"command": "sh", "args": []string{"-c", "dd if=/dev/zero bs=1M count=24 2>/dev/null"}})
	if r.ExitCode == nil || *r.ExitCode != 0 || !r.StdoutTruncated || len(r.Stdout) != 256<<10 {
		t.Errorf("24 MiB of output ended as %v, %d bytes, %v: %s", r.ExitCode, len(r.Stdout), r.StdoutTruncated, r.Stderr)
	}
	r = decode[vm.GuestExec](t, w.do(http.MethodPost, base+"/exec?wait=1s", map[string]any{"command": "sleep", "args": []string{"601"}}), http.StatusOK)
	if !r.TimedOut {
		t.Errorf("a long program ended as %+v", r)
	}
	w.eventually("it was killed", func() bool { return !strings.Contains(run("ps"), "sleep 601") })

	content := make([]byte, 1<<20+12345)
	_, _ = rand.Read(content)
	if rec := w.do(http.MethodPut, base+"/files?path=/root/blob&mode=0640", content); rec.Code != http.StatusOK {
		t.Fatalf("push: %d %s", rec.Code, rec.Body)
	}
	if mode := run("ls -l /root/blob; ls -a /root"); !strings.HasPrefix(mode, "-rw-r-----") || strings.Contains(mode, ".novacron") {
		t.Errorf("in the guest there is %s", mode)
	}
	if rec := w.do(http.MethodGet, base+"/files?path=/root/blob", nil); rec.Code != http.StatusOK || !bytes.Equal(rec.Body.Bytes(), content) {
		t.Errorf("pull: %d, %d bytes", rec.Code, rec.Body.Len())
	}
	if rec := w.do(http.MethodGet, base+"/files?path=/proc/version", nil); rec.Code != http.StatusOK || !strings.HasPrefix(rec.Body.String(), "Linux version") {
		t.Errorf("a file of the kernel: %d %s", rec.Code, rec.Body)
	}
	if got := w.code(http.MethodGet, base+"/files?path=/no/such/file", nil); got != "409 vm.agent_refused" {
		t.Errorf("a file that is not there: %s", got)
	}

	run("date -s '2020-01-01 00:00:00'")
	if set := decode[vm.GuestTime](t, w.do(http.MethodPost, base+"/time", nil), http.StatusOK); set.OffsetMS > -1000_000_000 {
		t.Errorf("its clock was off by %+v", set)
	}
	if year := run("date +%Y"); year != fmt.Sprint(time.Now().UTC().Year()) {
		t.Errorf("in the guest it is %s", year)
	}
	// The tiny guest has no chpasswd(8), which the agent hands user and password to.
	if rec := w.do(http.MethodPut, base+"/files?path=/bin/chpasswd&mode=0755", "#!/bin/sh\ncat >/root/set\n"); rec.Code != http.StatusOK {
		t.Fatalf("push: %d %s", rec.Code, rec.Body)
	}
	if rec := w.do(http.MethodPost, base+"/password", map[string]any{"username": "root", "password": "correct horse"}); rec.Code != http.StatusNoContent {
		t.Errorf("password: %d %s", rec.Code, rec.Body)
	} else if set := run("cat /root/set"); set != "root:correct horse" {
		t.Errorf("its password became %s", set)
	}

	t.Run("metrics", func(t *testing.T) {
		var m vm.Metrics
		w.eventually("the guest is measured twice", func() bool {
			rec := w.do(http.MethodGet, "/api/v1/vms/"+id.String()+"/metrics", nil)
			return rec.Code == http.StatusOK && json.Unmarshal(rec.Body.Bytes(), &m) == nil && m.CPUUsage != nil
		})
		if m.VCPUs != 1 || m.CPUSeconds <= 0 || m.MemoryRSSBytes == nil || m.NetworkBytesRecv == nil || *m.NetworkBytesRecv == 0 || m.DiskReadBytes == nil || *m.DiskReadBytes == 0 ||
			m.DiskUsagePercentage == nil || *m.DiskUsagePercentage <= 0 || m.MemoryUsage == nil || *m.MemoryUsage <= 0 {
			t.Errorf("measured %+v", m)
		}
		for len(heard) > 0 {
			told = append(told, <-heard)
		}
		if len(told) == 0 || len(told[0].Samples) != 1 || told[0].Samples[0].VMID != id {
			t.Errorf("told %+v", told)
		}
	})
	t.Run("hangs", func(t *testing.T) { w.realHungAgent(t, id) })
}

// realHungAgent stops the agent in the guest: it is still connected, and answers nothing.
func (w *world) realHungAgent(t *testing.T, id uuid.UUID) {
	base := "/api/v1/vms/" + id.String() + "/guest"
	if r := w.exec(id, map[string]any{"command": "sh", "args": []string{"-c", "(sleep 1; kill -STOP $(pidof qemu-ga)) >/dev/null 2>&1 </dev/null &"}}); r.ExitCode == nil {
		t.Fatalf("the agent could not be stopped: %+v", r)
	}
	w.eventually("it hangs", func() bool {
		rec := w.do(http.MethodGet, base, nil)
		return rec.Code == http.StatusConflict && strings.Contains(rec.Body.String(), "vm.agent_unavailable")
	})
	asked := make(chan string, 4)
	for range cap(asked) {
		go func() {
			rec := w.do(http.MethodPost, base+"/exec", map[string]any{"command": "true"})
			var p errs.Problem
			_ = json.Unmarshal(rec.Body.Bytes(), &p)
			asked <- fmt.Sprint(rec.Code, " ", p.Code)
		}()
	}
	// While they wait, the machine is measured, paused, resumed and stopped as if nothing were.
	for _, verb := range []string{"pause", "resume"} {
		if done := w.act(id, verb, nil); done.Status != "succeeded" {
			t.Errorf("%s ended as %+v", verb, done)
		}
	}
	if rec := w.do(http.MethodGet, "/api/v1/vms/"+id.String()+"/metrics", nil); rec.Code != http.StatusOK {
		t.Errorf("metrics: %d %s", rec.Code, rec.Body)
	}
	if done := w.act(id, "stop", map[string]any{"force": true}); done.Status != "succeeded" {
		t.Errorf("stop ended as %+v", done)
	}
	for range cap(asked) {
		if got := <-asked; got != "409 vm.agent_unavailable" && got != "409 vm.wrong_state" && got != "429 vm.agent_busy" {
			t.Errorf("a question to an agent that hangs: %s", got)
		}
	}
}
