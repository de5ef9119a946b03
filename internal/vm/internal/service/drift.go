package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
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

// drift remembers since when each difference has been there.
type drift struct {
	mu    sync.Mutex // held by the audit at work; guards since
	since map[driftKey]time.Time
}

type driftKey struct {
	kind         vm.DriftKind
	object, node uuid.UUID
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
	report := vm.DriftReport{Mode: "report", AuditedAt: time.Now().UTC(), Skipped: []uuid.UUID{}, Findings: []vm.DriftFinding{}}
	nodes, err := s.allNodes(ctx)
	if err != nil {
		return report, err
	}
	for _, node := range nodes {
		if node.State != scheduler.NodeReady {
			report.Skipped = append(report.Skipped, node.ID)
			continue
		}
		findings, unmanaged, err := s.auditNode(ctx, node.ID)
		if err != nil {
			if ctx.Err() != nil {
				return report, fmt.Errorf("audit node %s: %w", node.ID, err)
			}
			s.log.WarnContext(ctx, "a node could not be audited", "node_id", node.ID, "error", err)
			report.Skipped = append(report.Skipped, node.ID)
			continue
		}
		report.Unmanaged += unmanaged
		report.Findings = append(report.Findings, findings...)
	}
	report.Complete = len(report.Skipped) == 0
	s.remember(ctx, &report)
	return report, nil
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

// remember gives findings the time of their first sight, logs new ones, and forgets what is over. What a silent node holds is not over.
func (s *Service) remember(ctx context.Context, report *vm.DriftReport) {
	now := map[driftKey]time.Time{}
	for key, since := range s.drift.since {
		if slices.Contains(report.Skipped, key.node) {
			now[key] = since
		}
	}
	for i := range report.Findings {
		f := &report.Findings[i]
		key := driftKey{f.Kind, f.ObjectID, f.NodeID}
		since, known := s.drift.since[key]
		if !known {
			since = report.AuditedAt
			s.log.WarnContext(ctx, "drift found", "kind", string(f.Kind), "object_id", f.ObjectID, "node_id", f.NodeID, "expected", f.Expected, "seen", f.Seen)
		}
		f.Since, now[key] = since, since
	}
	s.drift.since = now
	slices.SortFunc(report.Findings, func(a, b vm.DriftFinding) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.ObjectID.String(), b.ObjectID.String()), cmp.Compare(a.Kind, b.Kind))
	})
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

// auditNode looks at the rows before and after it asks the node. A row that had no operation and the same generation both times was left
// alone between, so what it lacks is lacking. For what has no row the node is asked again afterwards: rows are there before what they stand
// for is made, and go after it is removed, so what is still there then has no row to come.
func (s *Service) auditNode(ctx context.Context, node uuid.UUID) ([]vm.DriftFinding, int, error) {
	before, err := s.store.SettledOn(ctx, node)
	if err != nil {
		return nil, 0, err
	}
	have, err := s.holdingOf(ctx, node)
	if err != nil {
		return nil, 0, err
	}
	after, err := s.store.SettledOn(ctx, node)
	if err != nil {
		return nil, 0, err
	}
	var findings []vm.DriftFinding
	for id, row := range before {
		if after[id] == row {
			findings = append(findings, missing(node, row, have)...)
		}
	}
	suspects := leaked(node, have)
	ids := make([]uuid.UUID, len(suspects))
	for i, f := range suspects {
		ids[i] = f.ObjectID
	}
	known, err := s.store.Known(ctx, ids)
	if err != nil {
		return nil, 0, err
	}
	suspects = slices.DeleteFunc(suspects, func(f vm.DriftFinding) bool { return known[f.ObjectID] })
	if len(suspects) == 0 {
		return findings, have.Unmanaged, nil
	}
	again, err := s.holdingOf(ctx, node)
	if err != nil {
		return nil, 0, errors.Join(errors.New("look again at what may be leaked"), err)
	}
	still := map[driftKey]bool{}
	for _, f := range leaked(node, again) {
		still[driftKey{f.Kind, f.ObjectID, node}] = true
	}
	for _, f := range suspects {
		if still[driftKey{f.Kind, f.ObjectID, node}] {
			findings = append(findings, f)
		}
	}
	return findings, have.Unmanaged, nil
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
		add(vm.DriftDomainLeaked, id, "a domain of this installation", "Look at it, then undefine it on the node.")
	}
	for _, f := range have.Folders {
		add(vm.DriftDiskLeaked, f.VMID, "a folder with files of a virtual machine", "Look at it, then remove the folder on the node.")
	}
	for _, id := range have.Volumes {
		add(vm.DriftVolumeLeaked, id, "the file of a volume", "It is removed by the sweep of volumes.")
	}
	for _, id := range have.Networks {
		add(vm.DriftNetworkLeaked, id, "a network of this installation", "Look at it, then undefine it on the node.")
	}
	return list
}
