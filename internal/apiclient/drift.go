package apiclient

import (
	"context"

	"github.com/novacron/novacron/internal/vm"
)

// Drift has everything compared with what should be, and answers the differences.
func (c *Client) Drift(ctx context.Context) (Object[vm.DriftReport], error) {
	return get[vm.DriftReport](ctx, c, "/api/v1/audit/drift")
}

// ActOnDrift has drift put right, or what is set aside restored or removed for good.
func (c *Client) ActOnDrift(ctx context.Context, req vm.DriftRequest) (Object[vm.DriftResults], error) {
	return post[vm.DriftResults](ctx, c, "/api/v1/audit/drift", req)
}
