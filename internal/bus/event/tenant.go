package event

import "github.com/google/uuid"

// TenantQuestion is asked of every module that keeps objects of tenants, by request/reply, when a tenant is to be deleted.
type TenantQuestion struct {
	TenantID uuid.UUID `json:"tenant_id"`
	Phase    string    `json:"phase"` // one of the Tenant… constants
}

// TenantAnswer says what a module has of a tenant.
type TenantAnswer struct {
	Objects map[string]int64 `json:"objects"` // kind, in the plural -> how many; none where there are none
}

// The phases of the deletion of a tenant. Each may be asked any number of times.
const (
	TenantAsk    = "ask"    // what is there?
	TenantClose  = "close"  // refuse new objects, wait for those that are being made, and then: what is there?
	TenantForget = "forget" // the tenant is empty and closed: drop settings that are no objects, such as its quota
	TenantOpen   = "open"   // it is not deleted after all: take new objects again
)
