package upstream

import (
	"context"
	"net/url"
)

// Resolver tells where a module runs. Configured addresses are one; a directory of services would be another.
type Resolver interface {
	// Addresses lists the base URLs of the processes that run the module, at least one.
	Addresses(ctx context.Context) ([]*url.URL, error)
}

// Static are addresses from the configuration.
type Static []*url.URL

// Addresses implements Resolver.
func (s Static) Addresses(context.Context) ([]*url.URL, error) { return s, nil }
