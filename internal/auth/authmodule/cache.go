package authmodule

import "github.com/novacron/novacron/internal/auth/internal/throttle"

// Cache is the part of the shared cache that the module needs.
type Cache interface {
	throttle.Counters
}
