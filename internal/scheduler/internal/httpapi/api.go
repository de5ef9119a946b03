// Package httpapi serves the scheduler's REST routes. A handler decodes, makes one call of the service, and converts the answer.
package httpapi

import (
	"strconv"
	"strings"

	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/internal/service"
)

// API holds the module's handlers.
type API struct{ svc *service.Service }

// Register puts the module's routes into the kit.
func Register(kit *httpx.API, svc *service.Service) {
	a := &API{svc: svc}
	a.registerNodes(kit)
	a.registerPlacement(kit)
	a.registerQuotas(kit)
}

// position turns the cursor of a request into the contract's form.
func position(cursor string) (*scheduler.Position, error) {
	c, err := httpx.ParseCursor(cursor)
	if err != nil || c == nil {
		return nil, err
	}
	return &scheduler.Position{Time: c.CreatedAt, ID: c.ID}, nil
}

func etag(revision int64) string { return `"` + strconv.FormatInt(revision, 10) + `"` }

// noRevision is the revision of nothing.
const noRevision = -1

// ifMatch reads an If-Match header: nil where any revision will do. What is not an ETag of ours cannot be the current one.
func ifMatch(header string) *int64 {
	header = strings.TrimSpace(header)
	if header == "" || header == "*" {
		return nil
	}
	text, quoted := strings.CutPrefix(header, `"`)
	text, closed := strings.CutSuffix(text, `"`)
	revision, err := strconv.ParseInt(text, 10, 64)
	if !quoted || !closed || err != nil {
		revision = noRevision
	}
	return &revision
}
