package vmtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
)

func creates(t *testing.T, h Harness) {
	p := principal("*")
	req := request("web-1", h.AddImage(t, p))
	req.Tags, req.Description = map[string]string{"env": "prod"}, "serves the web"
	begun := time.Now()
	made, err := h.Service().CreateVM(as(t, p), req)
	must(t, err)
	if made.VMID == uuid.Nil || made.OperationID == uuid.Nil {
		t.Fatalf("answered %+v", made)
	}
	op := succeeds(t, h, p, made.OperationID)
	if op.ID != made.OperationID || op.Kind != "vm.create" || op.TargetID != made.VMID || op.TenantID != p.TenantID || op.RequestedBy != p.UserID ||
		op.Progress != 100 || op.Error != nil || op.CreatedAt.Before(begun.Add(-patience)) || op.EndedAt.Before(op.CreatedAt) {
		t.Errorf("the operation is %+v", op)
	}
	m := status(t, h, p, made.VMID)
	if m.ID != made.VMID || m.Name != "web-1" || m.State != vm.StateRunning || m.DesiredState != vm.DesiredRunning || m.HypervisorType != "kvm" ||
		m.NodeID == nil || *m.NodeID != h.Node(t) || m.OwnerID != p.UserID || m.TenantID != p.TenantID || m.ImageID != req.ImageID ||
		m.Resources != req.Resources || !maps.Equal(m.Tags, req.Tags) || m.Description != req.Description || m.Generation != 1 ||
		m.OperationID != nil || m.Error != nil || m.Suspended || m.DeleteProtection {
		t.Errorf("the machine is %+v", m)
	}
	if len(m.Disks) != 1 || m.Disks[0].Name != "root" || m.Disks[0].SizeBytes != 1<<30 {
		t.Errorf("its disks are %+v", m.Disks)
	}
	if len(m.Networks) != 1 || m.Networks[0].NetworkID == uuid.Nil || len(m.Networks[0].MAC) != 17 || m.Networks[0].Link != vm.LinkUp {
		t.Errorf("its interfaces are %+v", m.Networks)
	}
	for name, absent := range map[string]bool{"pending": m.Pending == nil, "conditions": m.Conditions == nil, "boot order": m.BootOrder == nil, "limits": m.IOLimits == nil,
		"groups": m.Networks[0].SecurityGroups == nil, "addresses": m.Networks[0].Addresses == nil} {
		if absent {
			t.Errorf("the list of %s is absent instead of empty", name)
		}
	}
}

func createsStopped(t *testing.T, h Harness) {
	p := principal("*")
	req := request("web-1", h.AddImage(t, p))
	req.Stopped = true
	if m := create(t, h, p, req); m.State != vm.StateStopped || m.DesiredState != vm.DesiredStopped {
		t.Errorf("the machine is %+v", m)
	}
}

func refusesBadRequests(t *testing.T, h Harness) {
	p := principal("*")
	image := h.AddImage(t, p)
	for name, test := range map[string]struct {
		change func(*vm.CreateVMRequest)
		want   *errs.Error
		field  string
	}{
		"no name":            {func(r *vm.CreateVMRequest) { r.Name = "" }, vm.ErrInvalid, "body.name"},
		"capitals":           {func(r *vm.CreateVMRequest) { r.Name = "Web" }, vm.ErrInvalid, "body.name"},
		"a dash at its end":  {func(r *vm.CreateVMRequest) { r.Name = "web-" }, vm.ErrInvalid, "body.name"},
		"64 letters":         {func(r *vm.CreateVMRequest) { r.Name = strings.Repeat("a", 64) }, vm.ErrInvalid, "body.name"},
		"no text":            {func(r *vm.CreateVMRequest) { r.Name = "web\xff" }, vm.ErrInvalid, "body.name"},
		"no size":            {func(r *vm.CreateVMRequest) { r.Resources = vm.Resources{} }, vm.ErrInvalid, "body.resources.memory_mib"},
		"less than nothing":  {func(r *vm.CreateVMRequest) { r.Resources.VCPUs = -1 }, vm.ErrInvalid, "body.resources.vcpus"},
		"an unknown flavor":  {func(r *vm.CreateVMRequest) { r.Flavor = "none-of-ours" }, vm.ErrInvalid, "body.flavor"},
		"no image":           {func(r *vm.CreateVMRequest) { r.ImageID = uuid.Nil }, vm.ErrInvalid, "body.image_id"},
		"an absent image":    {func(r *vm.CreateVMRequest) { r.ImageID = uuid.New() }, vm.ErrImageNotFound, ""},
		"an absent template": {func(r *vm.CreateVMRequest) { id := uuid.New(); r.TemplateID = &id }, vm.ErrTemplateNotFound, ""},
	} {
		req := request("web-1", image)
		test.change(&req)
		resp, err := h.Service().CreateVM(as(t, p), req)
		if !errors.Is(err, test.want) || resp != (vm.CreateVMResponse{}) {
			t.Errorf("%s: answered %+v, error %v, want %v", name, resp, err, test.want)
			continue
		}
		fields := map[string]bool{"": true}
		for _, f := range errs.From(err).Fields {
			fields[f.Location] = true
		}
		if !fields[test.field] {
			t.Errorf("%s: the refusal names %v, not %s", name, fields, test.field)
		}
	}
	if list, err := h.Service().ListVMs(as(t, p), vm.ListVMsRequest{}); err != nil || len(list.VMs) != 0 || list.More {
		t.Errorf("what was refused is there: %+v, error %v", list, err)
	}
}

func namesAreTaken(t *testing.T, h Harness) {
	p, other := principal("*"), principal("*")
	image := h.AddImage(t, p)
	create(t, h, p, request("web-1", image))
	_, err := h.Service().CreateVM(as(t, p), request("web-1", image))
	is(t, err, vm.ErrNameTaken)
	create(t, h, other, request("web-1", h.AddImage(t, other)))
}

func bearsCrowds(t *testing.T, h Harness) {
	p := principal("*")
	image := h.AddImage(t, p)
	// The tenant's default network is made with its first machine.
	create(t, h, p, request("first", image))
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		made []uuid.UUID
	)
	ctx := as(t, p)
	for range 6 {
		wg.Go(func() {
			resp, err := h.Service().CreateVM(ctx, request("web-1", image))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made = append(made, resp.OperationID)
			} else if !errors.Is(err, vm.ErrNameTaken) {
				t.Errorf("in a crowd: %v", err)
			}
		})
	}
	wg.Wait()
	if len(made) != 1 {
		t.Fatalf("%d machines of one name", len(made))
	}
	succeeds(t, h, p, made[0])
}

func keysAreKept(t *testing.T, h Harness) {
	p := principal("*")
	image := h.AddImage(t, p)
	req := request("web-1", image)
	req.IdempotencyKey = "key-1"
	first, err := h.Service().CreateVM(as(t, p), req)
	must(t, err)
	again, err := h.Service().CreateVM(as(t, p), req)
	if err != nil || again != first {
		t.Errorf("answered %+v, then %+v, error %v", first, again, err)
	}
	succeeds(t, h, p, first.OperationID)
	if again, err = h.Service().CreateVM(as(t, p), req); err != nil || again != first {
		t.Errorf("after the end: %+v, error %v", again, err)
	}
	_, err = h.Service().CreateVM(as(t, colleague(p, "*")), req) // whose key is another
	is(t, err, vm.ErrNameTaken)
	stop := vm.StopVMRequest{VMID: first.VMID, Force: true, IdempotencyKey: "key-1"} // of another kind
	stopped, err := h.Service().StopVM(as(t, p), stop)
	must(t, err)
	succeeds(t, h, p, stopped.OperationID)
	if twice, err := h.Service().StopVM(as(t, p), stop); err != nil || twice != stopped {
		t.Errorf("stopped by %+v, then %+v, error %v", stopped, twice, err)
	}
	start := vm.StartVMRequest{VMID: first.VMID, IdempotencyKey: "key-1"}
	started, err := h.Service().StartVM(as(t, p), start)
	must(t, err)
	succeeds(t, h, p, started.OperationID)
	if twice, err := h.Service().StartVM(as(t, p), start); err != nil || twice != started {
		t.Errorf("started by %+v, then %+v, error %v", started, twice, err)
	}
}

func stopsAndStarts(t *testing.T, h Harness) {
	p := principal("*")
	id := create(t, h, p, request("web-1", h.AddImage(t, p))).ID
	grace := time.Duration(0)
	for i, step := range []struct {
		req  vm.StopVMRequest
		want vm.State
	}{
		{vm.StopVMRequest{VMID: id}, vm.StateStopped},
		{vm.StopVMRequest{VMID: id}, vm.StateStopped}, // again
		{vm.StopVMRequest{}, vm.StateRunning},         // a start
		{vm.StopVMRequest{}, vm.StateRunning},
		{vm.StopVMRequest{VMID: id, Grace: &grace}, vm.StateStopped},
		{vm.StopVMRequest{}, vm.StateRunning},
		{vm.StopVMRequest{VMID: id, Force: true}, vm.StateStopped},
	} {
		var op uuid.UUID
		if step.want == vm.StateRunning {
			resp, err := h.Service().StartVM(as(t, p), vm.StartVMRequest{VMID: id})
			must(t, err)
			op = resp.OperationID
		} else {
			resp, err := h.Service().StopVM(as(t, p), step.req)
			must(t, err)
			op = resp.OperationID
		}
		kind := map[vm.State]string{vm.StateRunning: "vm.start", vm.StateStopped: "vm.stop"}[step.want]
		if done := succeeds(t, h, p, op); done.Kind != kind || done.TargetID != id {
			t.Errorf("step %d: the operation is %+v", i, done)
		}
		if m := status(t, h, p, id); m.State != step.want || string(m.DesiredState) != string(step.want) {
			t.Errorf("step %d: the machine is %s, wanted %s", i, m.State, m.DesiredState)
		}
	}
}

func failsToStart(t *testing.T, h Harness) {
	p := principal("*")
	req := request("web-1", h.AddImage(t, p))
	req.Stopped = true
	id := create(t, h, p, req).ID
	h.BreakStarts(t, errs.New(errs.Conflict, "test.broken", "it is broken").WithAction("Mend it."))
	defer h.BreakStarts(t, nil)
	begun, err := h.Service().StartVM(as(t, p), vm.StartVMRequest{VMID: id})
	must(t, err)
	op := ended(t, h, p, begun.OperationID)
	if op.Status != vm.OperationFailed || op.Error == nil || op.Error.Code != "test.broken" || op.Error.Action != "Mend it." || op.Error.Status != 409 {
		t.Errorf("the operation is %+v: %+v", op, op.Error)
	}
	if m := status(t, h, p, id); m.State == vm.StateRunning || m.Error == nil || m.Error.Code != "test.broken" {
		t.Errorf("the machine is %+v: %+v", m, m.Error)
	}
	h.BreakStarts(t, nil)
	mended, err := h.Service().StartVM(as(t, p), vm.StartVMRequest{VMID: id})
	must(t, err)
	succeeds(t, h, p, mended.OperationID)
	if m := status(t, h, p, id); m.State != vm.StateRunning || m.Error != nil {
		t.Errorf("mended, the machine is %+v: %+v", m, m.Error)
	}
}

func deletes(t *testing.T, h Harness) {
	p := principal("*")
	m := create(t, h, p, request("web-1", h.AddImage(t, p)))
	gone, err := h.Service().DeleteVM(as(t, p), vm.DeleteVMRequest{VMID: m.ID})
	must(t, err)
	if op := succeeds(t, h, p, gone.OperationID); op.Kind != "vm.delete" || op.TargetID != m.ID {
		t.Errorf("the operation is %+v", op)
	}
	for name, err := range each(as(t, p), h.Service(), m.ID, uuid.New()) {
		if name != "GetOperation" && !errors.Is(err, vm.ErrNotFound) {
			t.Errorf("%s of what is gone: %v", name, err)
		}
	}
	if list, err := h.Service().ListVMs(as(t, p), vm.ListVMsRequest{}); err != nil || len(list.VMs) != 0 {
		t.Errorf("what is gone is listed: %+v, error %v", list, err)
	}
	create(t, h, p, request("web-1", m.ImageID)) // the name is free again
}

func protects(t *testing.T, h Harness) {
	p := principal("*")
	req := request("web-1", h.AddImage(t, p))
	req.DeleteProtection = true
	m := create(t, h, p, req)
	_, err := h.Service().DeleteVM(as(t, p), vm.DeleteVMRequest{VMID: m.ID})
	is(t, err, vm.ErrProtected)
	if m = status(t, h, p, m.ID); m.State != vm.StateRunning || !m.DeleteProtection {
		t.Errorf("the machine is %+v", m)
	}
}

func migratesNowhere(t *testing.T, h Harness) {
	p, root := principal("*"), administrator()
	m := create(t, h, p, request("web-1", h.AddImage(t, p)))
	here, nowhere := h.Node(t), uuid.New()
	for _, test := range []struct {
		by   identity.Principal
		to   *uuid.UUID
		want *errs.Error
	}{{p, nil, vm.ErrNoOtherNode}, {p, &here, vm.ErrOnNode}, {root, nil, vm.ErrNoOtherNode}, {root, &here, vm.ErrOnNode}, {root, &nowhere, scheduler.ErrNodeNotFound}} {
		resp, err := h.Service().MigrateVM(as(t, test.by), vm.MigrateVMRequest{VMID: m.ID, NodeID: test.to})
		if !errors.Is(err, test.want) || resp != (vm.MigrateVMResponse{}) || errs.Retryable(err) {
			t.Errorf("answered %+v, error %v, want %v", resp, err, test.want)
		}
	}
	if _, err := h.Service().MigrateVM(as(t, p), vm.MigrateVMRequest{VMID: m.ID, NodeID: &nowhere}); errs.From(err).Kind != errs.Forbidden {
		t.Errorf("who may not read nodes names one: %v", err)
	}
	if m = status(t, h, p, m.ID); m.State != vm.StateRunning || m.Generation != 1 || *m.NodeID != here {
		t.Errorf("the machine is %+v", m)
	}
}

func listsInPages(t *testing.T, h Harness) {
	p := principal("*")
	image := h.AddImage(t, p)
	want := []string{}
	for i := range 5 {
		req := request(fmt.Sprintf("web-%d", i), image)
		req.Stopped = true
		create(t, h, p, req)
		want = append([]string{req.Name}, want...)
	}
	var got []string
	req := vm.ListVMsRequest{Limit: 2}
	for page := range 3 {
		resp, err := h.Service().ListVMs(as(t, p), req)
		must(t, err)
		if more := page < 2; resp.More != more || len(resp.VMs) == 0 || len(resp.VMs) > 2 {
			t.Fatalf("page %d has %d machines, more: %t", page, len(resp.VMs), resp.More)
		}
		for _, m := range resp.VMs {
			got = append(got, m.Name)
		}
		last := resp.VMs[len(resp.VMs)-1]
		req.AfterTime, req.AfterID = last.CreatedAt, last.ID
	}
	if !cmp.Equal(got, want) {
		t.Errorf("listed %v, want %v", got, want)
	}
	if resp, err := h.Service().ListVMs(as(t, p), req); err != nil || len(resp.VMs) != 0 || resp.VMs == nil || resp.More {
		t.Errorf("after the last: %+v, error %v", resp, err)
	}
	for _, limit := range []int{0, -1, 5, 1 << 30} {
		if resp, err := h.Service().ListVMs(as(t, p), vm.ListVMsRequest{Limit: limit}); err != nil || len(resp.VMs) != 5 || resp.More {
			t.Errorf("with a limit of %d: %d, more: %t, error %v", limit, len(resp.VMs), resp.More, err)
		}
	}
	one, err := h.Service().ListVMs(as(t, p), vm.ListVMsRequest{Name: "web-3"})
	must(t, err)
	if len(one.VMs) != 1 || !cmp.Equal(one.VMs[0], status(t, h, p, one.VMs[0].ID)) {
		t.Errorf("in a list it is %+v", one.VMs)
	}
}

func listsNarrowed(t *testing.T, h Harness) {
	p := principal("*")
	image := h.AddImage(t, p)
	off := request("off", image)
	off.Stopped = true
	create(t, h, p, off)
	create(t, h, p, request("on", image))
	for _, test := range []struct {
		req  vm.ListVMsRequest
		want []string
	}{
		{vm.ListVMsRequest{}, []string{"on", "off"}},
		{vm.ListVMsRequest{State: vm.StateStopped}, []string{"off"}},
		{vm.ListVMsRequest{State: vm.StateRunning}, []string{"on"}},
		{vm.ListVMsRequest{State: vm.StatePaused}, []string{}},
		{vm.ListVMsRequest{Name: "on"}, []string{"on"}},
		{vm.ListVMsRequest{Name: "o"}, []string{}},
		{vm.ListVMsRequest{Name: "on", State: vm.StateStopped}, []string{}},
	} {
		resp, err := h.Service().ListVMs(as(t, p), test.req)
		must(t, err)
		names := []string{}
		for _, m := range resp.VMs {
			names = append(names, m.Name)
		}
		if !cmp.Equal(names, test.want) {
			t.Errorf("%+v lists %v, want %v", test.req, names, test.want)
		}
	}
}

func survivesEncoding(t *testing.T, h Harness) {
	p := principal("*")
	m := create(t, h, p, request("web-1", h.AddImage(t, p)))
	got, err := h.Service().GetVMStatus(as(t, p), vm.GetVMStatusRequest{VMID: m.ID})
	must(t, err)
	var back vm.GetVMStatusResponse
	journey(t, got, &back)
	if !cmp.Equal(got, back) {
		t.Errorf("after a journey: %s", cmp.Diff(got, back))
	}
	list, err := h.Service().ListVMs(as(t, p), vm.ListVMsRequest{})
	must(t, err)
	var lists vm.ListVMsResponse
	journey(t, list, &lists)
	if !cmp.Equal(list, lists) {
		t.Errorf("after a journey: %s", cmp.Diff(list, lists))
	}
	_, err = h.Service().GetOperation(as(t, p), vm.GetOperationRequest{OperationID: uuid.New()})
	if !errors.Is(errs.Decode(errs.Encode(err)), operation.ErrNotFound) {
		t.Errorf("the error %v does not survive", err)
	}
}

func journey(t *testing.T, from, to any) {
	t.Helper()
	b, err := json.Marshal(from)
	must(t, err)
	must(t, json.Unmarshal(b, to))
}
