package vmmodule

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/audit"
	"github.com/novacron/novacron/internal/vm/internal/service"
)

// consoleRecorder has consoles in the metrics and in the audit trail. Their record is begun when they are opened, and says how long they were open and what
// went through them when they are closed; of a process that ends before, it says that the end is not known.
type consoleRecorder struct {
	metrics *consoleMetrics
	audit   *audit.Recorder
}

// Opened implements service.ConsoleRecorder.
func (c consoleRecorder) Opened(ctx context.Context, o service.ConsoleOpened) (func(time.Duration, int64, int64), error) {
	p := o.Viewer
	details := map[string]string{"kind": o.Kind, "read_only": strconv.FormatBool(o.ReadOnly)}
	below, call, err := c.audit.Begin(ctx, event.Audit{Action: "vm-console.session", Permission: "vm:console", TargetKind: "vm", TargetID: o.VMID.String(), Details: details,
		UserID: p.UserID, Username: p.Username, APIKeyID: p.APIKeyID, SessionID: p.SessionID, TenantID: p.TenantID, HomeTenantID: p.HomeID})
	if err != nil {
		return nil, err
	}
	below = context.WithoutCancel(below) // it outlives the request that opened it
	c.metrics.opened(o.Kind)
	return func(openFor time.Duration, fromGuest, toGuest int64) {
		c.metrics.closed(o.Kind, openFor, fromGuest, toGuest)
		audit.Detail(below, "open_for_ms", strconv.FormatInt(openFor.Milliseconds(), 10))
		audit.Detail(below, "from_guest_bytes", strconv.FormatInt(fromGuest, 10))
		audit.Detail(below, "to_guest_bytes", strconv.FormatInt(toGuest, 10))
		call.End(below, http.StatusOK, "")
	}, nil
}
