// Package httpapi serves the vm module's REST routes. A handler decodes, makes one call of the service, and converts the answer.
package httpapi

import (
	"log/slog"

	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/vm/internal/service"
)

// Config bounds the routes.
type Config struct {
	MaxImageBytes int64
	Log           *slog.Logger
}

// API holds the module's handlers.
type API struct {
	cfg Config
	svc *service.Service
}

// Register puts the module's routes into the kit.
func Register(kit *httpx.API, svc *service.Service, cfg Config) {
	a := &API{cfg: cfg, svc: svc}
	a.registerVMs(kit)
	a.registerStatuses(kit)
	a.registerActions(kit)
	a.registerClones(kit)
	a.registerRescue(kit)
	a.registerMigrations(kit)
	a.registerConsole(kit)
	a.registerImages(kit)
	a.registerNetworks(kit)
	a.registerInterfaces(kit)
	a.registerSecurityGroups(kit)
	a.registerPortForwards(kit)
	a.registerOperations(kit)
	a.registerVolumes(kit)
	a.registerDisks(kit)
	a.registerSnapshots(kit)
	a.registerFlavors(kit)
	a.registerSSHKeys(kit)
	a.registerTemplates(kit)
	a.registerEvents(kit)
	a.registerWebhooks(kit)
	a.registerGuests(kit)
	a.registerDrift(kit)
}
