package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// inventoryTimeout bounds how long an audit waits for one node.
const inventoryTimeout = 20 * time.Second

// drift is what an audit keeps for the next one and for those who ask about machines.
type drift struct {
	mu         sync.Mutex // held by the audit at work
	conditions atomic.Pointer[map[uuid.UUID][]vm.Condition]
}

// DriftRecorder is told of audits and of what is done about drift.
type DriftRecorder interface {
	Audited(report vm.DriftReport)
	// Acted counts an action: a remedy, restore or reap.
	Acted(action string, err error)
}

// Drift compares what rows say with what nodes and the scheduler hold, and changes nothing. What an operation is at work on is never called
// missing, and what might have been made or removed meanwhile is never called a leak.
func (s *Service) Drift(ctx context.Context) (vm.DriftReport, error) {
	if !caller(ctx).AllowsPlatform("node:read") {
		return vm.DriftReport{}, httpx.MissingPlatform("node:read")
	}
	return s.AuditDrift(ctx)
}

// AuditDrift is Drift for the timer.
func (s *Service) AuditDrift(ctx context.Context) (vm.DriftReport, error) {
	s.drift.mu.Lock()
	defer s.drift.mu.Unlock()
	report := vm.DriftReport{Mode: s.cfg.Drift.Mode, AuditedAt: time.Now().UTC().Truncate(time.Microsecond), Skipped: []uuid.UUID{}, Findings: []vm.DriftFinding{},
		Quarantined: []vm.QuarantinedItem{}}
	nodes, err := s.allNodes(ctx)
	if err != nil {
		return report, err
	}
	on := map[uuid.UUID][]uuid.UUID{} // by node, guests that no row knows
	for _, node := range nodes {
		if node.State != scheduler.NodeReady {
			report.Skipped = append(report.Skipped, node.ID)
			continue
		}
		seen, err := s.auditNode(ctx, node.ID)
		if err != nil {
			if ctx.Err() != nil {
				return report, fmt.Errorf("audit node %s: %w", node.ID, err)
			}
			s.log.WarnContext(ctx, "a node could not be audited", "node_id", node.ID, "error", err)
			report.Skipped = append(report.Skipped, node.ID)
			continue
		}
		report.Unmanaged += seen.unmanaged
		report.Findings = append(report.Findings, seen.findings...)
		report.Quarantined = append(report.Quarantined, seen.quarantined...)
		on[node.ID] = seen.on
	}
	report.Complete = len(report.Skipped) == 0
	fresh, err := s.store.KeepDrift(ctx, report.Findings, report.Skipped, report.AuditedAt)
	if err != nil {
		return report, err
	}
	for _, f := range fresh {
		s.log.WarnContext(ctx, "drift found", "kind", string(f.Kind), "object_id", f.ObjectID, "node_id", f.NodeID, "expected", f.Expected, "seen", f.Seen)
	}
	slices.SortFunc(report.Findings, func(a, b vm.DriftFinding) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.ObjectID.String(), b.ObjectID.String()), cmp.Compare(a.Kind, b.Kind))
	})
	s.cfg.Drift.plan(&report, on)
	s.showDrift(report.Findings)
	s.recorder.Audited(report)
	return report, nil
}

// LoadDrift shows what the last audit found before this process was started.
func (s *Service) LoadDrift(ctx context.Context) error {
	findings, err := s.store.DriftFindings(ctx)
	if err != nil {
		return err
	}
	s.showDrift(findings)
	return nil
}

// showDrift keeps what machines show of findings. It is in memory, because the lists of machines are long and findings are few.
func (s *Service) showDrift(findings []vm.DriftFinding) {
	shown := map[uuid.UUID][]vm.Condition{}
	for _, f := range findings {
		message := fmt.Sprintf("Expected: %s. Seen: %s. %s", f.Expected, f.Seen, f.Proposal)
		shown[f.ObjectID] = append(shown[f.ObjectID], vm.Condition{Type: f.Kind, Message: message, Since: f.Since})
	}
	s.drift.conditions.Store(&shown)
}

// conditionsOf is what a machine shows of drift.
func (s *Service) conditionsOf(id uuid.UUID) []vm.Condition {
	if shown := s.drift.conditions.Load(); shown != nil && len((*shown)[id]) > 0 {
		return (*shown)[id]
	}
	return []vm.Condition{}
}

func (s *Service) allNodes(ctx context.Context) (list []scheduler.Node, err error) {
	req := scheduler.ListNodesRequest{Limit: httpx.MaxLimit}
	for {
		page, err := s.placer.ListNodes(ctx, req)
		if err != nil {
			return nil, fmt.Errorf("list nodes: %w", err)
		}
		list = append(list, page.Nodes...)
		if len(page.Nodes) < req.Limit {
			return list, nil
		}
		last := page.Nodes[len(page.Nodes)-1]
		req.After = &scheduler.Position{Time: last.RegisteredAt, ID: last.ID}
	}
}

// holding is what a node and its share of the scheduler hold.
type holding struct {
	nodeapi.Inventory
	allocated map[uuid.UUID]scheduler.Allocation
}

func (s *Service) holdingOf(ctx context.Context, node uuid.UUID) (h holding, err error) {
	ask, cancel := context.WithTimeout(ctx, inventoryTimeout)
	defer cancel()
	h.Inventory, err = nodeapi.Do[nodeapi.Inventory](ask, s.nodes, nodeapi.Target{NodeID: node}, nodeapi.VerbInventory, nodeapi.Empty{})
	if err != nil {
		return h, err
	}
	h.allocated = map[uuid.UUID]scheduler.Allocation{}
	req := scheduler.ListAllocationsRequest{NodeID: &node, Limit: scheduler.MaxPage}
	for {
		page, err := s.placer.ListAllocations(ctx, req)
		if err != nil {
			return h, fmt.Errorf("list allocations: %w", err)
		}
		for _, a := range page.Allocations {
			h.allocated[a.VMID] = a
		}
		if len(page.Allocations) < req.Limit {
			return h, nil
		}
		last := page.Allocations[len(page.Allocations)-1]
		req.After = &scheduler.Position{Time: last.AllocatedAt, ID: last.VMID}
	}
}

// nodeAudit is what an audit saw of one node.
type nodeAudit struct {
	findings    []vm.DriftFinding
	quarantined []vm.QuarantinedItem
	on          []uuid.UUID // guests that no row knows
	unmanaged   int
}

// auditNode looks at the rows before and after it asks the node. A row that had no operation and the same generation both times was left
// alone between, so what it lacks is lacking. For what has no row the node is asked again afterwards: rows are there before what they stand
// for is made, and go after it is removed, so what is still there then has no row to come.
func (s *Service) auditNode(ctx context.Context, node uuid.UUID) (a nodeAudit, err error) {
	before, err := s.store.SettledOn(ctx, node)
	if err != nil {
		return a, err
	}
	have, err := s.holdingOf(ctx, node)
	if err != nil {
		return a, err
	}
	after, err := s.store.SettledOn(ctx, node)
	if err != nil {
		return a, err
	}
	a.unmanaged = have.Unmanaged
	for id, row := range before {
		if after[id] == row {
			a.findings = append(a.findings, missing(node, row, have)...)
		}
	}
	suspects := leaked(node, have)
	ids := make([]uuid.UUID, 0, len(suspects)+len(have.Quarantined))
	for _, f := range suspects {
		ids = append(ids, f.ObjectID)
	}
	for _, q := range have.Quarantined {
		ids = append(ids, q.ID)
	}
	known, err := s.store.Known(ctx, ids)
	if err != nil {
		return a, err
	}
	for _, q := range have.Quarantined {
		a.quarantined = append(a.quarantined, vm.QuarantinedItem{ObjectID: q.ID, Kind: string(q.Kind), NodeID: node, QuarantinedAt: q.At, Bytes: q.Bytes, Known: known[q.ID]})
	}
	suspects = slices.DeleteFunc(suspects, func(f vm.DriftFinding) bool { return known[f.ObjectID] })
	if len(suspects) == 0 {
		return a, nil
	}
	again, err := s.holdingOf(ctx, node)
	if err != nil {
		return a, errors.Join(errors.New("look again at what may be leaked"), err)
	}
	type suspect struct {
		kind vm.DriftKind
		id   uuid.UUID
	}
	still := map[suspect]bool{}
	for _, f := range leaked(node, again) {
		still[suspect{f.Kind, f.ObjectID}] = true
	}
	for _, f := range suspects {
		if still[suspect{f.Kind, f.ObjectID}] {
			a.findings = append(a.findings, f)
		}
	}
	for _, id := range again.On {
		if slices.ContainsFunc(suspects, func(f vm.DriftFinding) bool { return f.ObjectID == id }) {
			a.on = append(a.on, id)
		}
	}
	return a, nil
}

// missing tells what a settled row lacks.
func missing(node uuid.UUID, row store.Settled, have holding) (list []vm.DriftFinding) {
	add := func(kind vm.DriftKind, expected, seen, proposal string) {
		list = append(list, vm.DriftFinding{Kind: kind, ObjectID: row.ID, NodeID: node, Expected: expected, Seen: seen, Proposal: proposal})
	}
	if row.Volume {
		if !slices.Contains(have.Volumes, row.ID) {
			add(vm.DriftVolumeMissing, "the file of the volume in the node's storage", "none", "Put the file back, or delete the volume. It is never made anew by itself.")
		}
	} else {
		if !slices.Contains(have.Domains, row.ID) {
			add(vm.DriftDomainMissing, "a domain on the node", "none", "Start the virtual machine: it is defined anew, on the disk that it has.")
		}
		if i := slices.IndexFunc(have.Edited, func(e nodeapi.EditedDefinition) bool { return e.VMID == row.ID }); i >= 0 {
			add(vm.DriftDefinitionEdited, "the definition that NovaCron gave the domain", have.Edited[i].Changes,
				"It is given its definition again, at the latest when it is started by NovaCron. Change settings through the API.")
		}
		if !slices.Contains(have.Folders, nodeapi.FolderOfDisk{VMID: row.ID, Root: true}) {
			add(vm.DriftDiskMissing, "the file of the root disk in the node's storage", "none", "Put the file back, or delete the virtual machine. It is never made anew by itself.")
		}
	}
	a, ok := have.allocated[row.ID]
	switch {
	case !ok:
		add(vm.DriftAllocationMissing, "a place with the scheduler", "none", "Save what is on it and delete it: what has lost its place is given no other, and a virtual machine without one cannot be started.")
	case !row.Volume && a.VCPUs != row.VCPUs:
		add(vm.DriftAllocationDiffers, fmt.Sprintf("%d vCPUs with the scheduler", row.VCPUs), fmt.Sprint(a.VCPUs), "Resize the virtual machine to the size that it is to have.")
	}
	return list
}

// leaked lists all that a node holds as if it had no row.
func leaked(node uuid.UUID, have holding) (list []vm.DriftFinding) {
	add := func(kind vm.DriftKind, id uuid.UUID, seen, proposal string) {
		list = append(list, vm.DriftFinding{Kind: kind, ObjectID: id, NodeID: node, Expected: "nothing: no row knows it", Seen: seen, Proposal: proposal})
	}
	for _, id := range have.Domains {
		add(vm.DriftDomainLeaked, id, "a domain of this installation", "Look at it. Set aside, its definition and its disks can be had back.")
	}
	for _, f := range have.Folders {
		add(vm.DriftDiskLeaked, f.VMID, "a folder with files of a virtual machine", "Look at it. Set aside, the folder can be had back.")
	}
	for _, id := range have.Volumes {
		add(vm.DriftVolumeLeaked, id, "the file of a volume", "Look at it. Set aside, the volume can be had back.")
	}
	for id, a := range have.allocated {
		if a.Status == scheduler.AllocationConfirmed { // a reservation comes before its row, and ends by itself
			add(vm.DriftAllocationLeaked, id, fmt.Sprintf("a place of a %s with the scheduler", a.Kind), "It is given back.")
		}
	}
	for _, id := range have.Networks {
		add(vm.DriftNetworkLeaked, id, "a network of this installation", "It is removed: a machine that needs it gets it anew.")
	}
	return list
}
