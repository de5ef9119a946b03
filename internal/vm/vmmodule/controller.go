package vmmodule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/novacron/novacron/db"
	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/platform/audit"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/httpx/idempotent"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/platform/pg/auditrow"
	"github.com/novacron/novacron/internal/platform/pg/idempotency"
	"github.com/novacron/novacron/internal/platform/pg/outbox"
	"github.com/novacron/novacron/internal/platform/seal"
	"github.com/novacron/novacron/internal/platform/startstop"
	"github.com/novacron/novacron/internal/platform/tenancy"
	"github.com/novacron/novacron/internal/vm/internal/imagefetch"
	"github.com/novacron/novacron/internal/vm/internal/imagestore"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/service"
	"github.com/novacron/novacron/internal/vm/internal/statuscache"
	"github.com/novacron/novacron/internal/vm/internal/store"
	"github.com/novacron/novacron/internal/vm/internal/stream"
	"github.com/novacron/novacron/internal/vm/internal/webhook"
)

// schema is the module's part of the database.
const schema = "vm"

// policyInterval is how soon a node that was away, or that missed a change when a process was killed, is brought to its policy.
const policyInterval = 5 * time.Second

// controller is what runs while the controller role does, in the order in which it was started.
type controller struct {
	pool       *pgxpool.Pool
	ops        *operation.Engine
	relay      *outbox.Relay
	audit      *audit.Recorder
	streams    *stream.Server
	reports    bus.Subscription
	sweeper    *startstop.Loop
	policies   *startstop.Loop
	storage    *startstop.Loop // the sweeper of volumes and snapshots
	auditor    *startstop.Loop // of drift
	drifts     *driftMetrics
	boots      *startstop.Loop // of what comes back after the restart of a host
	totals     *storageMetrics
	svc        *service.Service
	consoles   *consoleMetrics
	statuses   *statusMetrics
	changes    *startstop.Loop // of statuses
	tenants    bus.Subscription
	revoked    bus.Subscription
	measured   bus.Subscription
	news       bus.Subscription // of events
	webhooks   *webhook.Dispatcher
	gate       *tenancy.Gate
	idempotent func(http.Handler) http.Handler
}

func startController(ctx context.Context, cfg Config, deps Deps, svc *service.Service, rec *audit.Recorder) (_ *controller, err error) {
	c := &controller{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stop(context.WithoutCancel(ctx)))
		}
	}()
	migrations, err := db.Migrations(schema)
	if err != nil {
		return nil, err
	}
	if err := pg.Bootstrap(ctx, cfg.DatabaseURL, pg.Module{Schema: schema, Migrations: migrations}, deps.Log); err != nil {
		return nil, fmt.Errorf("prepare database: %w", err)
	}
	if c.pool, err = pg.Open(ctx, pg.Config{URL: cfg.DatabaseURL, Schema: schema, MaxConns: cfg.MaxConns, ApplicationName: "novacron-vm"}); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := operation.Migrate(ctx, c.pool, schema); err != nil {
		return nil, fmt.Errorf("prepare operations: %w", err)
	}
	ops, err := operation.NewEngine(operation.Config{Pool: c.pool, Schema: schema, Owner: cfg.Owner, Log: deps.Log,
		Registerer: deps.Registerer, Fault: deps.Fault})
	if err != nil {
		return nil, fmt.Errorf("make operation engine: %w", err)
	}
	st := store.New(c.pool, ops)
	installation, err := st.InstallationID(ctx)
	if err != nil {
		return nil, err
	}
	images, err := imagestore.Open(filepath.Join(cfg.DataDir, "images"), cfg.MaxImageBytes)
	if err != nil {
		return nil, err
	}
	rules, err := cfg.importRules()
	if err != nil {
		return nil, fmt.Errorf("vm.image_import.networks: %w", err)
	}
	box := seal.NewBox(filepath.Join(cfg.DataDir, "keys"))
	if err := box.Open(); err != nil {
		return nil, err
	}
	if c.consoles, err = newConsoleMetrics(deps.Registerer); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	if c.drifts, err = newDriftMetrics(deps.Registerer); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	if c.statuses, err = newStatusMetrics(deps.Registerer); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	streams := stream.New(filepath.Join(cfg.DataDir, "run", "streams.sock"), deps.Log)
	if err := streams.Start(ctx); err != nil {
		return nil, err
	}
	c.streams = streams
	svc.Bind(service.Backends{Store: st, Ops: ops, Placer: deps.Scheduler, Images: images, Streams: streams, Box: box, Fetcher: imagefetch.New(rules), Consoles: consoleRecorder{c.consoles, rec}, Drift: c.drifts,
		Statuses: statuscache.New(statuscache.Config{Kept: deps.Cache, Read: st.Statuses, Recorder: c.statuses, Log: deps.Log}),
		Nodes:    &nodeapi.Client{Bus: deps.Bus, InstallationID: installation}})
	// A process that was killed may have left half an upload, which can be as large as uploads may be.
	if err := svc.SweepImages(ctx, 0); err != nil {
		deps.Log.WarnContext(ctx, "sweep of images failed", "error", err)
	}
	// Nodes are heard before operations go on, which may need them at once.
	if c.reports, err = bus.Serve(deps.Bus, bus.SubjectNodeReports, bus.ServeOptions{Queue: "vm.controller"}, svc.Report); err != nil {
		return nil, fmt.Errorf("serve node reports: %w", err)
	}
	c.relay = outbox.NewRelay(c.pool, deps.Bus, outbox.Config{Subjects: []string{bus.SubjectVMEvents, bus.SubjectVMObjects}, Shared: []string{bus.SubjectAuditRecords}, Log: deps.Log})
	if err := c.relay.Start(ctx); err != nil {
		return nil, fmt.Errorf("start outbox relay: %w", err)
	}
	sending := cfg.webhooks
	sending.Store, sending.Unseal, sending.Log, sending.Allow = st, box.Unseal, deps.Log, cfg.webhookRanges()
	sending.Version, sending.Registerer = cfg.Version, deps.Registerer
	if c.webhooks, err = webhook.New(sending); err != nil {
		return nil, err
	}
	c.webhooks.Start()
	if c.news, err = svc.WatchEvents(deps.Bus, c.webhooks.Kick); err != nil {
		return nil, fmt.Errorf("listen to events: %w", err)
	}
	c.changes = new(startstop.Loop)
	c.changes.Start(context.WithoutCancel(ctx), func(ctx context.Context) error {
		svc.WatchStatuses(ctx)
		return nil
	})
	rec.Start(auditrow.New(c.pool))
	c.audit, c.svc = rec, svc
	if err := ops.Start(ctx); err != nil {
		return nil, fmt.Errorf("start operation engine: %w", err)
	}
	c.ops = ops
	c.gate = tenancy.New(st)
	if c.tenants, err = c.gate.Serve(deps.Bus, "vm"); err != nil {
		return nil, fmt.Errorf("answer for tenants: %w", err)
	}
	if c.revoked, err = svc.WatchRevocations(deps.Bus); err != nil {
		return nil, fmt.Errorf("listen to revocations: %w", err)
	}
	if c.measured, err = svc.WatchMetrics(deps.Bus); err != nil {
		return nil, fmt.Errorf("listen to measurements: %w", err)
	}
	keys := idempotency.New(c.pool)
	c.idempotent = idempotent.Middleware(keys, httpx.WriteError)
	c.sweeper = startstop.Every(time.Hour, func(ctx context.Context) {
		if err := errors.Join(svc.SweepImages(ctx, service.ImageGrace), svc.SweepStorage(ctx), svc.ForgetHistory(ctx), c.webhooks.Sweep(ctx), keys.Sweep(ctx)); err != nil {
			deps.Log.WarnContext(ctx, "sweep failed", "error", err)
		}
	})
	c.policies = startstop.Every(policyInterval, func(ctx context.Context) {
		if err := svc.SyncPolicies(ctx); err != nil && ctx.Err() == nil {
			level := slog.LevelWarn
			if errs.Retryable(err) { // a node that is not up yet, for example
				level = slog.LevelDebug
			}
			deps.Log.Log(ctx, level, "nodes could not be given their policies", "error", err)
		}
	})
	c.boots = startstop.Every(time.Second, func(ctx context.Context) {
		if err := svc.Boot(ctx); err != nil && ctx.Err() == nil {
			deps.Log.WarnContext(ctx, "bringing virtual machines back after the restart of their host failed", "error", err)
		}
	})
	if c.totals, err = newStorageMetrics(deps.Registerer); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	if err := svc.LoadDrift(ctx); err != nil {
		return nil, err
	}
	c.auditor = startstop.Every(cfg.DriftInterval, func(ctx context.Context) {
		report, err := svc.AuditDrift(ctx)
		if err == nil {
			err = svc.HealDrift(ctx, report)
		}
		if err != nil && ctx.Err() == nil {
			deps.Log.WarnContext(ctx, "audit of drift failed", "error", err)
		}
	})
	c.storage = startstop.Every(time.Minute, func(ctx context.Context) {
		if err := errors.Join(svc.SweepSnapshots(ctx), svc.NoteVolumeUsage(ctx), c.totals.update(ctx, svc)); err != nil && ctx.Err() == nil {
			level := slog.LevelWarn
			if errs.Retryable(err) { // a node that is not up yet, for example
				level = slog.LevelDebug
			}
			deps.Log.Log(ctx, level, "sweep of volumes and snapshots failed", "error", err)
		}
	})
	return c, nil
}

// stop ends what was started, the newest first.
func (c *controller) stop(ctx context.Context) error {
	var failed error
	if c.sweeper != nil {
		c.sweeper.Stop()
	}
	if c.boots != nil {
		c.boots.Stop()
	}
	if c.revoked != nil {
		c.revoked.Close()
	}
	if c.measured != nil {
		c.measured.Close()
	}
	if c.news != nil {
		c.news.Close()
	}
	c.webhooks.Stop()
	if c.storage != nil {
		c.storage.Stop()
	}
	if c.auditor != nil {
		c.auditor.Stop()
	}
	if c.policies != nil {
		c.policies.Stop()
	}
	c.totals.unregister()
	if c.changes != nil {
		c.changes.Stop()
	}
	c.consoles.unregister()
	c.statuses.unregister()
	c.drifts.unregister()
	if c.tenants != nil {
		c.tenants.Close()
	}
	if c.ops != nil {
		failed = errors.Join(failed, c.ops.Stop(ctx))
	}
	if c.audit != nil {
		c.svc.EndConsoles()
		c.audit.Stop()
	}
	if c.relay != nil {
		failed = errors.Join(failed, c.relay.Stop(ctx))
	}
	if c.reports != nil {
		c.reports.Close()
	}
	if c.streams != nil {
		failed = errors.Join(failed, c.streams.Stop())
	}
	if c.pool != nil {
		c.pool.Close()
	}
	return failed
}

func (c *controller) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return pg.Map(c.pool.Ping(ctx))
}
