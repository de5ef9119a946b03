package app

import (
	"github.com/novacron/novacron/internal/app/topology"
	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/gateway/gatewaymodule"
	"github.com/novacron/novacron/internal/platform/cache"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/grpcx"
	"github.com/novacron/novacron/internal/platform/hop"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/httpx/idempotent"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/platform/pg/outbox"
	"github.com/novacron/novacron/internal/platform/pg/pgserver"
	"github.com/novacron/novacron/internal/platform/safedial"
	"github.com/novacron/novacron/internal/platform/tenancy"
	"github.com/novacron/novacron/internal/scheduler/schedulermodule"
	"github.com/novacron/novacron/internal/vm/vmmodule"
)

// Errors lists every error that a client or an operator can meet, by code.
func Errors() ([]*errs.Error, error) {
	return errs.Reference(httpx.Errors(), auth.Errors(), vmmodule.Errors(), schedulermodule.Errors(), gatewaymodule.Errors(), operation.Errors(),
		idempotent.Errors(), bus.Errors(), cache.Errors(), pg.Errors(), pgserver.Errors(), outbox.Errors(), tenancy.Errors(), topology.Errors(), hop.Errors(), grpcx.Errors(), safedial.Errors(), []*errs.Error{ErrDataDirInUse})
}
