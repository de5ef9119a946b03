package service

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/internal/placement"
)

// Placement is what would happen to a machine that nobody has created.
type Placement struct {
	Fits     bool          `json:"fits" doc:"A node has room. The quota is not looked at."`
	NodeID   *uuid.UUID    `json:"node_id,omitempty" doc:"Where it would go; for those who may read nodes."`
	NodeName string        `json:"node_name,omitempty"`
	Summary  string        `json:"summary" example:"2 of 3 lack memory"`
	Advice   string        `json:"advice,omitempty" doc:"What would make it fit."`
	Nodes    []NodeOpinion `json:"nodes" nullable:"false" doc:"Every node, the best first."`
}

// NodeOpinion is why one node would take the machine, or would not.
type NodeOpinion struct {
	Node      string               `json:"node" doc:"The node's name, or a number for those who may not read nodes." example:"kvm-01"`
	NodeID    *uuid.UUID           `json:"node_id,omitempty"`
	Fits      bool                 `json:"fits"`
	Reasons   []string             `json:"reasons" nullable:"false" example:"[\"needs 64 vCPUs, has 30 free of 32 (2 hardware threads × 16)\"]"`
	Permanent bool                 `json:"permanent" doc:"Neither waiting nor emptying the node would help."`
	Free      *scheduler.Resources `json:"free,omitempty" doc:"What may still be allocated; for those who may read nodes."`
}

// Try tells where a machine would be placed, and every reason against every node. It takes nothing.
func (s *Service) Try(ctx context.Context, want placement.Request) (Placement, error) {
	invalid := scheduler.ErrInvalid
	checkSize(func(location, message string) { invalid = invalid.WithField(location, message, "") }, "body.",
		want.VCPUs, want.MemoryBytes, want.StorageBytes, want.HypervisorType)
	if len(invalid.Fields) > 0 {
		return Placement{}, invalid
	}
	nodes, err := s.store.AllNodes(ctx)
	if err != nil {
		return Placement{}, err
	}
	named := mayReadNodes(ctx)
	verdicts := s.cfg.Policy.Rank(nodes, want)
	p := Placement{Nodes: make([]NodeOpinion, len(verdicts))}
	fitting := 0
	for i, v := range verdicts {
		p.Nodes[i] = opinion(v, i+1, named)
		if v.Fits() {
			fitting++
		}
	}
	if p.Fits = fitting > 0; !p.Fits {
		e := placement.NoFit(verdicts, named)
		p.Summary, p.Advice = e.Message, advice(verdicts)
		return p, nil
	}
	p.Summary = fmt.Sprintf("%d of %d nodes fit", fitting, len(verdicts))
	if best := verdicts[0].Node; named {
		p.NodeID, p.NodeName = &best.ID, best.Name
	}
	return p, nil
}

func opinion(v placement.Verdict, number int, named bool) NodeOpinion {
	o := NodeOpinion{Node: fmt.Sprint(number), Fits: v.Fits(), Reasons: make([]string, len(v.Reasons))}
	for i, r := range v.Reasons {
		o.Reasons[i] = r.Public()
		if named {
			o.Reasons[i] = r.Message
		}
		o.Permanent = o.Permanent || r.Permanent
	}
	if named {
		n := v.Node
		o.Node, o.NodeID = n.Name, &n.ID
		o.Free = &scheduler.Resources{VCPUs: max(0, n.Limits.VCPUs-n.Allocated.VCPUs),
			MemoryBytes: max(0, n.Limits.MemoryBytes-n.Allocated.MemoryBytes), StorageBytes: max(0, n.Limits.StorageBytes-n.Allocated.StorageBytes)}
	}
	return o
}

// advice tells what would make the machine fit, from the node that is nearest to taking it: the one with the fewest reasons, those that
// pass by themselves counting least.
func advice(verdicts []placement.Verdict) string {
	if len(verdicts) == 0 {
		return "Start a node; it registers with its first heartbeat."
	}
	best, cost := verdicts[0], int(^uint(0)>>1)
	for _, v := range verdicts {
		c := 0
		for _, r := range v.Reasons {
			if c++; r.Permanent {
				c += 100
			}
		}
		if c < cost {
			best, cost = v, c
		}
	}
	text := "It would fit if"
	for i, r := range best.Reasons {
		if i > 0 {
			text += " and"
		}
		switch {
		case r.Class == placement.Unreachable:
			text += " an unreachable node came back"
		case r.Class == placement.Cordoned:
			text += " a node were uncordoned"
		case r.Class == placement.Hypervisor:
			text += " a node offered the hypervisor type"
		case r.Permanent:
			text += " the machine asked for less, or a larger node were added (nodes " + string(r.Class) + ")"
		default:
			text += " room were made (nodes " + string(r.Class) + ")"
		}
	}
	return text + "."
}
