package operation

import (
	"context"

	"github.com/novacron/novacron/internal/platform/tracing"
)

// trace begins the span of a run, below the request that asked for the operation: also of one that another process began, or this one before
// a restart.
func (r *Run) trace(ctx context.Context) (context.Context, tracing.Span) {
	return tracing.Enter(tracing.FromStored(ctx, r.row.parent), tracing.Internal, "operation "+r.row.Kind,
		tracing.String("novacron.operation_id", r.id.String()), tracing.String("novacron.operation", r.row.Kind), tracing.String("novacron.target_id", r.row.TargetID.String()),
		tracing.String("novacron.tenant_id", r.row.TenantID.String()), tracing.Int("novacron.lease_epoch", int(r.epoch)))
}

// traceStep begins the span of one attempt at a step.
func (r *Run) traceStep(ctx context.Context, step Step, what string) (context.Context, tracing.Span) {
	if !tracing.Recorded(ctx) {
		return ctx, tracing.Span{}
	}
	name, attempt := "step "+r.row.Kind+" "+step.Name, r.row.Steps[r.step].Attempts
	if what == "undo" {
		name, attempt = "undo "+r.row.Kind+" "+step.Name, r.row.Steps[r.step].UndoAttempts+1
	}
	return tracing.Start(ctx, tracing.Internal, name, tracing.String("novacron.step", step.Name), tracing.Int("novacron.attempt", attempt))
}
