package apiclient

import (
	"context"

	"github.com/novacron/novacron/internal/vm"
)

// Drift has everything compared with what should be, and answers the differences.
func (c *Client) Drift(ctx context.Context) (Object[vm.DriftReport], error) {
	return get[vm.DriftReport](ctx, c, "/api/v1/audit/drift")
}
