package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/vm"
)

func (c *cloud) handleVMs(handle register) {
	handle("GET /api/v1/vms", func(w http.ResponseWriter, r *http.Request) {
		items := []*vm.VM{}
		q := r.URL.Query()
		for _, m := range c.vms {
			if (q.Get("name") == "" || q.Get("name") == m.Name) && (q.Get("state") == "" || q.Get("state") == string(m.State)) &&
				(q.Get("image_id") == "" || q.Get("image_id") == m.ImageID.String()) && (q.Get("node_id") == "" || q.Get("node_id") == m.NodeID.String()) {
				items = append(items, m)
			}
		}
		answer(w, 200, map[string]any{"items": items})
	})
	handle("POST /api/v1/vms", c.createVM)
	handle("GET /api/v1/vms/status", func(w http.ResponseWriter, r *http.Request) {
		items := []vm.Status{}
		for id := range strings.SplitSeq(r.URL.Query().Get("ids"), ",") {
			for _, m := range c.vms {
				if m.ID.String() == id {
					items = append(items, vm.Status{ID: m.ID, Name: m.Name, State: m.State, DesiredState: m.DesiredState, OperationID: m.OperationID, Addresses: addresses(*m)})
				}
			}
		}
		answer(w, 200, map[string]any{"items": items})
	})
	one := func(pattern string, h func(http.ResponseWriter, *http.Request, int)) {
		handle(pattern, func(w http.ResponseWriter, r *http.Request) {
			for i, m := range c.vms {
				if m.ID.String() == r.PathValue("id") {
					h(w, r, i)
					return
				}
			}
			refuse(w, vm.ErrNotFound)
		})
	}
	one("GET /api/v1/vms/{id}", func(w http.ResponseWriter, _ *http.Request, i int) { answer(w, 200, c.vms[i]) })
	one("DELETE /api/v1/vms/{id}", func(w http.ResponseWriter, _ *http.Request, i int) {
		answer(w, 202, c.operate("vm.delete", "", c.vms[i].ID, func() { c.vms = append(c.vms[:i:i], c.vms[i+1:]...) }))
	})
	for verb, state := range map[string]vm.State{"start": vm.StateRunning, "stop": vm.StateStopped, "restart": vm.StateRunning, "reset": vm.StateRunning,
		"pause": vm.StatePaused, "resume": vm.StateRunning} {
		one("POST /api/v1/vms/{id}/"+verb, func(w http.ResponseWriter, r *http.Request, i int) {
			var how apiclient.VMStop
			if r.ContentLength > 0 {
				_ = json.NewDecoder(r.Body).Decode(&how)
			}
			m := c.vms[i]
			switch {
			case verb == "pause" && m.State != vm.StateRunning:
				refuse(w, vm.ErrWrongState.WithMessage("a machine that is %s cannot be paused", m.State))
			case how.Force: // left visible for the scripts
				m.Tags = map[string]string{"stopped": "by force"}
				fallthrough
			case how.GraceSeconds == nil:
				answer(w, 202, c.operate("vm."+verb, m.Name, m.ID, func() { m.State = state }))
			default:
				m.Tags = map[string]string{"grace": strconv.Itoa(*how.GraceSeconds)}
				answer(w, 202, c.operate("vm."+verb, m.Name, m.ID, func() { m.State = state }))
			}
		})
	}
	one("POST /api/v1/vms/{id}/migrate", func(w http.ResponseWriter, r *http.Request, i int) {
		var to struct {
			NodeID *uuid.UUID `json:"node_id"`
		}
		switch err := json.NewDecoder(r.Body).Decode(&to); {
		case err != nil:
			refuse(w, httpx.ErrMalformed)
		case to.NodeID != nil && c.vms[i].NodeID != nil && *to.NodeID == *c.vms[i].NodeID:
			refuse(w, vm.ErrOnNode)
		default:
			refuse(w, vm.ErrNoOtherNode)
		}
	})
	one("GET /api/v1/vms/{id}/console/log", func(w http.ResponseWriter, r *http.Request, i int) {
		log := c.logs[c.vms[i].ID]
		if log == "" {
			refuse(w, vm.ErrNoConsoleLog)
			return
		}
		offset, _ := strconv.Atoi(r.URL.Query().Get("offset"))
		if offset < 0 {
			offset = max(0, len(log)+offset)
		}
		offset = min(offset, len(log))
		end := min(offset+16, len(log)) // a small piece at a time, so that more than one is needed
		w.Header().Set("X-Console-Offset", strconv.Itoa(offset))
		w.Header().Set("X-Console-Size", strconv.Itoa(len(log)))
		if r.URL.Query().Get("offset")[0] == '-' {
			end = len(log)
		}
		fmt.Fprint(w, log[offset:end])
	})
	one("POST /api/v1/vms/{id}/console", func(w http.ResponseWriter, r *http.Request, _ int) {
		answer(w, 201, map[string]any{"ticket": "t", "kind": "serial", "url": r.URL.Path + "/ws?ticket=t", "expires_at": day})
	})
	one("GET /api/v1/vms/{id}/console/ws", func(w http.ResponseWriter, r *http.Request, _ int) {
		c.mu.Unlock() // a conversation takes its time
		defer c.mu.Lock()
		talk(w, r)
	})
}

func (c *cloud) createVM(w http.ResponseWriter, r *http.Request) {
	var in apiclient.VMCreate
	_ = json.NewDecoder(r.Body).Decode(&in)
	for _, m := range c.vms {
		if m.Name == in.Name {
			refuse(w, vm.ErrNameTaken)
			return
		}
	}
	size := vm.Resources{VCPUs: 1, MemoryMiB: 256, DiskGiB: 1}
	if in.Resources != nil {
		size = vm.Resources{VCPUs: in.Resources.VCPUs, MemoryMiB: in.Resources.MemoryMiB, DiskGiB: in.Resources.DiskGiB}
	}
	if size.VCPUs > 32 {
		refuse(w, errs.New(errs.Conflict, "scheduler.no_fit", "no node fits").WithAction("Ask for less.").WithField("node.kvm-01", "has 32 vCPU at most", ""))
		return
	}
	if in.Name == "Bad_Name" {
		refuse(w, errs.New(errs.Invalid, "request.invalid", "the request failed validation").WithField("body.name", "must be an RFC 1123 label", in.Name))
		return
	}
	host := node
	m := &vm.VM{ID: c.id(), Name: in.Name, State: vm.StateRunning, DesiredState: vm.DesiredRunning, HypervisorType: "kvm", NodeID: &host, OwnerID: owner, TenantID: tenant,
		ImageID: in.ImageID, Flavor: in.Flavor, Resources: size, Networks: []vm.Interface{}, Disks: []vm.Disk{{Name: "root", SizeBytes: size.DiskGiB << 30}},
		Tags: in.Tags, Description: in.Description, Settings: vm.Settings{DeleteProtection: in.DeleteProtection}, Generation: 1, CreatedAt: day, UpdatedAt: day}
	if in.Tags == nil {
		m.Tags = map[string]string{}
	}
	if in.Start != nil && !*in.Start {
		m.State, m.DesiredState = vm.StateStopped, vm.DesiredStopped
	}
	for i, n := range in.Networks {
		m.Networks = append(m.Networks, vm.Interface{NetworkID: *n.NetworkID, MAC: fmt.Sprintf("52:54:00:00:00:%02x", i+1), Addresses: []string{fmt.Sprintf("10.101.0.%d", i+10)}})
	}
	for _, key := range in.SSHKeys {
		c.logs[m.ID] += "key " + key + "\n"
	}
	if in.UserData != "" {
		c.logs[m.ID] += "user-data " + in.UserData
	}
	if m.Name == "web-1" {
		c.logs[m.ID] += "booting\r\nNovaCron guest web-1 ready\r\n"
	}
	c.vms = append([]*vm.VM{m}, c.vms...)
	op := c.operate("vm.create", m.Name, m.ID, func() {})
	if c.ops[0].Status == "failed" { // undone
		c.vms = c.vms[1:]
	}
	answer(w, 202, op)
}
