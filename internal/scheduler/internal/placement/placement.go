// Package placement decides where a machine may run and where it runs best. It is pure: nodes and a request in, an order of candidates
// and the reasons against the others out. The store asks it twice for each reservation, once to rank what it read and once for the row it
// has locked, so that there is one truth of what fits.
package placement

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/scheduler"
)

// Policy is how far nodes may be filled.
type Policy struct {
	OvercommitVCPU   float64 // virtual CPUs for each hardware thread
	OvercommitMemory float64 // bytes promised for each byte that is left after MemoryReserve
	MemoryReserve    int64   // bytes of each node that stay with the host
	StorageReserve   int64   // bytes of each node's file system that are never promised and must be free for a new machine
	NodeTimeout      time.Duration
}

// Request is what a machine needs.
type Request struct {
	VCPUs          int
	MemoryBytes    int64
	StorageBytes   int64
	HypervisorType string     // empty: for storage alone, which any node has
	NodeID         *uuid.UUID // the only node that will do; nil: any. Who asks for one has something there already, so a cordon does not count
}

// Limits tells how much of a node may be allocated.
func (p Policy) Limits(capacity scheduler.Resources) scheduler.Resources {
	return scheduler.Resources{
		VCPUs:        int(float64(capacity.VCPUs) * p.OvercommitVCPU),
		MemoryBytes:  int64(float64(max(0, capacity.MemoryBytes-p.MemoryReserve)) * p.OvercommitMemory),
		StorageBytes: max(0, capacity.StorageBytes-p.StorageReserve),
	}
}

// State tells whether a node that was last heard of at lastHeartbeat is reachable at now; both are times of one clock.
func (p Policy) State(lastHeartbeat, now time.Time) scheduler.NodeState {
	if now.Sub(lastHeartbeat) > p.NodeTimeout {
		return scheduler.NodeUnreachable
	}
	return scheduler.NodeReady
}

// Class is the sort of a reason, which anybody may know. Its text completes a summary: "2 of 3 lack memory".
type Class string

// The classes.
const (
	Unreachable Class = "are unreachable"
	Cordoned    Class = "are cordoned"
	Hypervisor  Class = "lack the hypervisor type"
	LackVCPUs   Class = "lack vCPUs"
	LackMemory  Class = "lack memory"
	LackStorage Class = "lack storage"
)

// Reason is why a node cannot take a machine.
type Reason struct {
	Class   Class
	Message string // with figures, for those who may read nodes
	// Permanent says that neither waiting nor emptying the node helps.
	Permanent bool
}

// Public is the reason without any figure, for those who may not know how full nodes are.
func (r Reason) Public() string {
	verb := "has not enough free "
	if r.Permanent {
		verb = "has, even when empty, not enough "
	}
	switch r.Class {
	case Unreachable:
		return "is unreachable"
	case Cordoned:
		return "takes no new machines"
	case Hypervisor:
		return "does not offer the hypervisor type"
	case LackVCPUs:
		return verb + "vCPUs"
	case LackMemory:
		return verb + "memory"
	case LackStorage:
		return verb + "storage"
	}
	return "does not fit"
}

// Check lists every reason why the node cannot take the machine; none means that it can.
func (p Policy) Check(n scheduler.Node, r Request) []Reason {
	var reasons []Reason
	add := func(class Class, permanent bool, format string, args ...any) {
		reasons = append(reasons, Reason{Class: class, Message: fmt.Sprintf(format, args...), Permanent: permanent})
	}
	if n.State != scheduler.NodeReady {
		add(Unreachable, false, "is %s: its last heartbeat came at %s", n.State, n.LastHeartbeat.UTC().Format(time.RFC3339))
	}
	if n.Cordoned && r.NodeID == nil {
		add(Cordoned, false, "is cordoned")
	}
	if r.HypervisorType != "" && !slices.Contains(n.Hypervisors, r.HypervisorType) {
		add(Hypervisor, true, "does not run %s, only %v", r.HypervisorType, n.Hypervisors)
	}
	if limit, free := n.Limits.VCPUs, n.Limits.VCPUs-n.Allocated.VCPUs; r.VCPUs > free {
		add(LackVCPUs, r.VCPUs > limit, "needs %d vCPUs, has %d free of %d (%d hardware threads × %g)",
			r.VCPUs, max(0, free), limit, n.Capacity.VCPUs, p.OvercommitVCPU)
	}
	if limit, free := n.Limits.MemoryBytes, n.Limits.MemoryBytes-n.Allocated.MemoryBytes; r.MemoryBytes > free {
		add(LackMemory, r.MemoryBytes > limit, "needs %s of memory, has %s free of %s", Bytes(r.MemoryBytes), Bytes(free), Bytes(limit))
	}
	if limit, free := n.Limits.StorageBytes, n.Limits.StorageBytes-n.Allocated.StorageBytes; r.StorageBytes > free {
		add(LackStorage, r.StorageBytes > limit, "needs %s of storage, has %s free of %s", Bytes(r.StorageBytes), Bytes(free), Bytes(limit))
	}
	if n.StorageFreeBytes < p.StorageReserve {
		add(LackStorage, false, "has only %s left in the file system of its disks, of which %s are kept", Bytes(n.StorageFreeBytes), Bytes(p.StorageReserve))
	}
	return reasons
}

// Verdict is what was found about one node.
type Verdict struct {
	Node    scheduler.Node
	Reasons []Reason // none: it fits
}

// Fits tells whether the node can take the machine.
func (v Verdict) Fits() bool { return len(v.Reasons) == 0 }

// Rank judges every node. Those that fit come first, the best of them at the head: healthy before degraded, then the one whose memory is
// filled least once the machine is on it, then the one whose vCPUs are, then by id so that equal nodes have one order. The others
// follow by name. Where only one node will do, only that one is judged.
func (p Policy) Rank(nodes []scheduler.Node, r Request) []Verdict {
	if r.NodeID != nil {
		nodes = slices.DeleteFunc(slices.Clone(nodes), func(n scheduler.Node) bool { return n.ID != *r.NodeID })
	}
	verdicts := make([]Verdict, len(nodes))
	for i, n := range nodes {
		verdicts[i] = Verdict{Node: n, Reasons: p.Check(n, r)}
	}
	slices.SortFunc(verdicts, func(a, b Verdict) int {
		switch {
		case a.Fits() && !b.Fits():
			return -1
		case !a.Fits() && b.Fits():
			return 1
		case !a.Fits():
			return cmp.Or(cmp.Compare(a.Node.Name, b.Node.Name), compareID(a, b))
		}
		return cmp.Or(
			cmp.Compare(degraded(a.Node), degraded(b.Node)),
			cmp.Compare(fill(a.Node.Allocated.MemoryBytes+r.MemoryBytes, a.Node.Limits.MemoryBytes),
				fill(b.Node.Allocated.MemoryBytes+r.MemoryBytes, b.Node.Limits.MemoryBytes)),
			cmp.Compare(fill(int64(a.Node.Allocated.VCPUs+r.VCPUs), int64(a.Node.Limits.VCPUs)),
				fill(int64(b.Node.Allocated.VCPUs+r.VCPUs), int64(b.Node.Limits.VCPUs))),
			compareID(a, b))
	})
	return verdicts
}

func compareID(a, b Verdict) int { return slices.Compare(a.Node.ID[:], b.Node.ID[:]) }

func degraded(n scheduler.Node) int {
	if n.Health == scheduler.HealthHealthy {
		return 0
	}
	return 1
}

// fill is only asked of nodes that fit, whose limit is therefore positive.
func fill(used, limit int64) float64 { return float64(used) / float64(max(1, limit)) }

// Bytes writes an amount for people, rounded down to a tenth of its unit. What is owed shows as 0 B.
func Bytes(n int64) string {
	if n <= 0 {
		return "0 B"
	}
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	u, f := 0, n
	for f >= 1<<10 && u < len(units)-1 {
		f >>= 10
		u++
	}
	unit := int64(1) << (10 * u)
	whole, rest := n/unit, n%unit
	if rest == 0 {
		return fmt.Sprintf("%d %s", whole, units[u])
	}
	return fmt.Sprintf("%d.%d %s", whole, min(9, int(float64(rest)/float64(unit)*10)), units[u])
}
