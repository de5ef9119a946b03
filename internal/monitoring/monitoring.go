// Package monitoring is the contract of the monitoring module: what the installation knows of its own health. It is a leaf.
package monitoring

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Health is how the installation as a whole does.
type Health struct {
	Status string       `json:"status" enum:"healthy,degraded" doc:"degraded where any node is."`
	At     time.Time    `json:"at"`
	Nodes  []NodeHealth `json:"nodes" nullable:"false"`
}

// NodeHealth is how one hypervisor node does.
type NodeHealth struct {
	NodeID        uuid.UUID `json:"node_id"`
	Name          string    `json:"name"`
	Status        string    `json:"status" enum:"healthy,degraded,silent" doc:"silent where its heartbeat has stayed away."`
	Reason        string    `json:"reason,omitempty"`
	LastHeartbeat time.Time `json:"last_heartbeat"`
	Running       int       `json:"running" doc:"Virtual machines that run on it."`
}

// The statuses.
const (
	StatusHealthy  = "healthy"
	StatusDegraded = "degraded"
	StatusSilent   = "silent"
)

// Service is what other modules may ask of the monitoring module.
type Service interface {
	// GetHealth tells how the installation does now.
	GetHealth(ctx context.Context, req GetHealthRequest) (GetHealthResponse, error)
}

// GetHealthRequest asks for the health of all nodes.
type GetHealthRequest struct{}

// GetHealthResponse answers GetHealth.
type GetHealthResponse struct{ Health Health }
