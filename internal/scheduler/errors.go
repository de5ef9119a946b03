package scheduler

import "github.com/novacron/novacron/internal/platform/errs"

// The errors of the scheduler module.
var (
	// ErrNoFit carries, in Fields, the reason of every node: location "node.<name>" for those who may read nodes, "node.<number>" and
	// no figures for everybody else. It is retryable when a node could hold the machine but is too full or away at this moment.
	ErrNoFit = errs.New(errs.Conflict, "scheduler.no_fit", "no node fits").
			WithAction("Ask for less, or have nodes added or emptied; POST /api/v1/scheduler/placements tries sizes without taking a place.")
	// ErrQuotaExceeded carries, in Fields, every exhausted resource as "quota.<resource>".
	ErrQuotaExceeded = errs.New(errs.Conflict, "scheduler.quota_exceeded", "the quota of the tenant is exhausted").
				WithAction("Delete what is not needed, or ask an administrator of the installation for a larger quota.")
	ErrReservationExpired = errs.New(errs.Conflict, "scheduler.reservation_expired", "the place was not confirmed in time and has been given back").
				WithAction("Reserve a place again.")
	ErrReservationMismatch = errs.New(errs.Conflict, "scheduler.reservation_mismatch", "the machine holds a place of another size, hypervisor or tenant").
				WithAction("Release the place first.")
	ErrAllocationNotFound = errs.New(errs.NotFound, "scheduler.allocation_not_found", "the machine holds no place")
	ErrNodeNotFound       = errs.New(errs.NotFound, "scheduler.node_not_found", "there is no such node")
	ErrTenantNotFound     = errs.New(errs.NotFound, "scheduler.tenant_not_found", "there is no such tenant")
	ErrPlatformOnly       = errs.New(errs.Forbidden, "scheduler.platform_only", "this needs a role that reaches every tenant")
	ErrVersion            = errs.New(errs.Precondition, "scheduler.version_mismatch", "the object has changed since you read it").
				WithAction("Read it again and repeat the change.")
	ErrInvalid    = errs.New(errs.Invalid, "scheduler.invalid", "the request cannot be met as asked")
	ErrNotRunning = errs.New(errs.Unavailable, "scheduler.not_running", "the scheduler is not running at the moment").
			WithAction("Try again in a moment; /ready shows which modules run.")
)

// Errors lists the contract's errors for the reference.
func Errors() []*errs.Error {
	return []*errs.Error{ErrNoFit, ErrQuotaExceeded, ErrReservationExpired, ErrReservationMismatch, ErrAllocationNotFound, ErrNodeNotFound,
		ErrTenantNotFound, ErrPlatformOnly, ErrVersion, ErrInvalid, ErrNotRunning}
}
