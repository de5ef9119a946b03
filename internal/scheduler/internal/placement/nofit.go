package placement

import (
	"fmt"
	"slices"
	"strings"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/scheduler"
)

// NoFit makes the error for a machine that none of the judged nodes can take. With named it names nodes and figures; without, it tells
// for each numbered node the sort of its reasons only, so that nobody learns how full others have made it.
func NoFit(verdicts []Verdict, named bool) *errs.Error {
	if len(verdicts) == 0 {
		return scheduler.ErrNoFit.WithMessage("no node fits: no node has registered yet").WithRetryable(true).
			WithAction("Start a node; it registers with its first heartbeat.")
	}
	e := scheduler.ErrNoFit.WithMessage("no node fits: %s", Summary(verdicts)).WithRetryable(false)
	for i, v := range verdicts {
		location := fmt.Sprintf("node.%d", i+1)
		if named {
			location = "node." + v.Node.Name
		}
		e = e.WithField(location, v.Explain(named), "")
		if !slices.ContainsFunc(v.Reasons, func(r Reason) bool { return r.Permanent }) {
			e = e.WithRetryable(true)
		}
	}
	return e
}

// Explain puts the reasons into one line.
func (v Verdict) Explain(named bool) string {
	lines := make([]string, len(v.Reasons))
	for i, r := range v.Reasons {
		if lines[i] = r.Message; !named {
			lines[i] = r.Public()
		}
	}
	return strings.Join(lines, "; ")
}

// Summary counts the nodes that are out for each class of reason: "2 of 3 lack memory, 1 of 3 are cordoned".
func Summary(verdicts []Verdict) string {
	var parts []string
	for _, c := range []Class{Unreachable, Cordoned, Hypervisor, LackVCPUs, LackMemory, LackStorage} {
		count := 0
		for _, v := range verdicts {
			if slices.ContainsFunc(v.Reasons, func(r Reason) bool { return r.Class == c }) {
				count++
			}
		}
		if count > 0 {
			parts = append(parts, fmt.Sprintf("%d of %d %s", count, len(verdicts), c))
		}
	}
	return strings.Join(parts, ", ")
}
