package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/internal/service"
	"github.com/novacron/novacron/internal/scheduler/internal/store"
)

// tenantQuota is a quota as clients see it.
type tenantQuota struct {
	TenantID  uuid.UUID       `json:"tenant_id"`
	Limits    scheduler.Quota `json:"limits" doc:"What the tenant may hold; 0 means unlimited."`
	Usage     scheduler.Usage `json:"usage" doc:"What it holds, reservations included."`
	Default   bool            `json:"default" doc:"The tenant has no quota of its own: the installation's default holds."`
	Revision  int64           `json:"revision" doc:"Grows with every change; the ETag. 0 for the default."`
	UpdatedAt *time.Time      `json:"updated_at,omitempty"`
}

type quotaOutput struct {
	ETag string `header:"ETag"`
	Body tenantQuota
}

func quotaAnswer(q store.TenantQuota, err error) (*quotaOutput, error) {
	if err != nil {
		return nil, err
	}
	return &quotaOutput{ETag: etag(q.Revision), Body: tenantQuota{TenantID: q.TenantID, Limits: q.Limits, Usage: q.Usage, Default: !q.Own,
		Revision: q.Revision, UpdatedAt: q.UpdatedAt}}, nil
}

// TenantPath names a tenant. It is exported because huma passes over embedded fields that are not.
type TenantPath struct {
	ID uuid.UUID `path:"id" format:"uuid" doc:"Id of the tenant."`
}

func (a *API) registerQuotas(kit *httpx.API) {
	httpx.Handle(kit, httpx.Op{ID: "scheduler-quota-own", Method: http.MethodGet, Path: "/api/v1/scheduler/quota",
		Permission: service.PermissionQuotaRead, Summary: "Read your tenant's quota and what is used of it", Tag: "quotas"},
		func(ctx context.Context, _ *struct{}) (*quotaOutput, error) {
			p, _ := identity.From(ctx)
			return quotaAnswer(a.svc.Quota(ctx, p.TenantID))
		})

	httpx.Handle(kit, httpx.Op{ID: "tenant-quota-get", Method: http.MethodGet, Path: "/api/v1/tenants/{id}/quota",
		Permission: service.PermissionQuotaRead, Summary: "Read a tenant's quota and what is used of it", Tag: "quotas",
		Errors: []*errs.Error{scheduler.ErrTenantNotFound}},
		func(ctx context.Context, in *TenantPath) (*quotaOutput, error) {
			return quotaAnswer(a.svc.Quota(ctx, in.ID))
		})

	type putInput struct {
		TenantPath
		IfMatch string `header:"If-Match" maxLength:"128" doc:"The ETag of the revision that is to be changed."`
		Body    scheduler.Quota
	}
	httpx.Handle(kit, httpx.Op{ID: "tenant-quota-put", Method: http.MethodPut, Path: "/api/v1/tenants/{id}/quota",
		Permission: service.PermissionQuotaWrite, Summary: "Set a tenant's quota", Tag: "quotas",
		Description: "Needs a role that reaches every tenant. Less than the tenant holds takes nothing away, but nothing more is given.",
		Errors:      []*errs.Error{scheduler.ErrTenantNotFound, scheduler.ErrPlatformOnly, scheduler.ErrVersion}},
		func(ctx context.Context, in *putInput) (*quotaOutput, error) {
			return quotaAnswer(a.svc.SetQuota(ctx, in.ID, in.Body, ifMatch(in.IfMatch)))
		})
}
