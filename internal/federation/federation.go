// Package federation is the contract of the federation module: sites and clouds as providers, and the virtual machines of all of
// them in one list. It is a leaf.
package federation

import (
	"time"

	"github.com/google/uuid"
)

// ProviderLocal is the id of the provider that is this installation itself.
const ProviderLocal = "local"

// Provider is a place where virtual machines run.
type Provider struct {
	ID           string    `json:"id" example:"local"`
	Name         string    `json:"name" example:"this installation"`
	ProviderType string    `json:"provider_type" example:"novacron"`
	HealthStatus string    `json:"health_status" enum:"healthy,degraded,unknown"`
	CheckedAt    time.Time `json:"last_health_check"`
	Enabled      bool      `json:"enabled"`
}

// VM is a virtual machine as it looks from above all providers.
type VM struct {
	ID           uuid.UUID `json:"id"`
	Name         string    `json:"name"`
	ProviderID   string    `json:"provider_id" example:"local"`
	ProviderType string    `json:"provider_type" example:"novacron"`
	State        string    `json:"state" example:"running"`
	VCPUs        int       `json:"vcpus"`
	MemoryMiB    int64     `json:"memory_mib"`
	CreatedAt    time.Time `json:"created_at"`
}
