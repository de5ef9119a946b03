package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/vm"
)

// handleGuests serves guests with agents, except in machines named quiet-…. Their programs are echo, cat, fail and sleep.
func (c *cloud) handleGuests(handle register) {
	files := map[string]string{}
	guest := func(pattern string, h func(http.ResponseWriter, *http.Request, *vm.VM)) {
		handle(pattern, func(w http.ResponseWriter, r *http.Request) {
			for _, m := range c.vms {
				if m.ID.String() == r.PathValue("id") {
					if strings.HasPrefix(m.Name, "quiet-") {
						refuse(w, vm.ErrAgentUnavailable)
						return
					}
					h(w, r, m)
					return
				}
			}
			refuse(w, vm.ErrNotFound)
		})
	}
	total, used, percent := int64(8<<30), int64(2<<30), 12.5
	guest("GET /api/v1/vms/{id}/guest", func(w http.ResponseWriter, _ *http.Request, m *vm.VM) {
		answer(w, 200, vm.GuestInfo{AgentVersion: "7.2.22", Hostname: m.Name + "\x1b[31m", System: vm.GuestSystem{PrettyName: "Debian GNU/Linux 12"}, Timezone: vm.GuestTimezone{Name: "UTC"},
			Users: []vm.GuestUser{{Name: "ada", LoginAt: day}}, Filesystems: []vm.GuestFilesystem{{Device: "vda1", Mountpoint: "/", Type: "ext4", TotalBytes: &total, UsedBytes: &used}},
			Interfaces: []vm.GuestInterface{{Name: "eth0", Addresses: []string{"10.0.0.5/24"}}}, Missing: []string{"interfaces"}, At: day})
	})
	guest("POST /api/v1/vms/{id}/guest/exec", func(w http.ResponseWriter, r *http.Request, _ *vm.VM) {
		var body apiclient.GuestExec
		_ = json.NewDecoder(r.Body).Decode(&body)
		code := 0
		result := vm.GuestExec{ExitCode: &code, Stdout: body.Stdin, Stderr: []byte{}}
		switch body.Command {
		case "echo":
			result.Stdout = []byte(strings.Join(body.Args, " ") + body.Env["END"] + "\n")
		case "fail":
			code = 3
			result.Stderr = []byte("it failed\n")
		case "sleep":
			result.ExitCode, result.TimedOut = nil, true
			result.Stdout = []byte("wait=" + r.URL.Query().Get("wait"))
		}
		answer(w, 200, result)
	})
	guest("PUT /api/v1/vms/{id}/guest/files", func(w http.ResponseWriter, r *http.Request, _ *vm.VM) {
		body, _ := io.ReadAll(r.Body)
		files[r.URL.Query().Get("path")] = string(body) + r.URL.Query().Get("mode")
		answer(w, 200, vm.GuestFile{Path: r.URL.Query().Get("path"), SizeBytes: int64(len(body))})
	})
	guest("GET /api/v1/vms/{id}/guest/files", func(w http.ResponseWriter, r *http.Request, _ *vm.VM) {
		text, ok := files[r.URL.Query().Get("path")]
		switch {
		case !ok:
			refuse(w, vm.ErrAgentRefused.WithMessage("the guest agent refused guest-file-open: No such file or directory"))
		case strings.HasSuffix(r.URL.Query().Get("path"), "broken"):
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, text)
			panic(http.ErrAbortHandler)
		default:
			fmt.Fprint(w, text)
		}
	})
	guest("POST /api/v1/vms/{id}/guest/password", func(w http.ResponseWriter, r *http.Request, _ *vm.VM) {
		var body apiclient.GuestPassword
		_ = json.NewDecoder(r.Body).Decode(&body)
		files["password"] = body.Username + ":" + body.Password
		w.WriteHeader(http.StatusNoContent)
	})
	guest("POST /api/v1/vms/{id}/guest/time", func(w http.ResponseWriter, _ *http.Request, _ *vm.VM) {
		answer(w, 200, vm.GuestTime{OffsetMS: -61500, Time: day})
	})
	handle("GET /api/v1/vms/{id}/metrics", func(w http.ResponseWriter, r *http.Request) {
		for _, m := range c.vms {
			switch {
			case m.ID.String() != r.PathValue("id"):
			case strings.HasPrefix(m.Name, "quiet-"):
				refuse(w, vm.ErrNoMetrics)
				return
			default:
				usage := percent * float64(len(m.Name))
				answer(w, 200, vm.Metrics{VMID: m.ID, NodeID: node, Time: day, CPUUsage: &usage, MemoryRSSBytes: &used})
				return
			}
		}
		refuse(w, vm.ErrNotFound)
	})
}
