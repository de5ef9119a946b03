// Package app is the composition root: the only place that knows every module. It builds them from the configuration, hands each what it
// needs, and runs them until the process is told to end.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/novacron/novacron/internal/app/topology"
	"github.com/novacron/novacron/internal/bus/membus"
	"github.com/novacron/novacron/internal/config"
	"github.com/novacron/novacron/internal/platform/audit"
	"github.com/novacron/novacron/internal/platform/cache"
	"github.com/novacron/novacron/internal/platform/gcroom"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/logx"
	"github.com/novacron/novacron/internal/platform/pg/pgserver"
	"github.com/novacron/novacron/internal/platform/systemd"
	"github.com/novacron/novacron/internal/platform/telemetry"
	"github.com/novacron/novacron/internal/platform/tracing"
	"github.com/novacron/novacron/internal/platform/tracing/otlp"
)

// Options is what Run is told besides the configuration.
type Options struct {
	Build telemetry.Build
	// OnFirstAdmin is told, once in the life of an installation, the password of its first administrator. May be nil.
	OnFirstAdmin func(username, password, file string)
	// OnRunning is told when every module has started, with the address of the API; empty without a gateway. May be nil.
	OnRunning func(address string)
	// OnInner is told the address on which gateways reach the module of this process, if they do. May be nil.
	OnInner func(address string)
	// Reload reads the configuration anew; it is asked on SIGHUP. May be nil: then SIGHUP changes nothing.
	Reload func() (config.Config, error)
}

// memoryCacheEntries bounds the cache in process, and the limits in it: some 35 MiB when it is full.
const memoryCacheEntries = 100_000

// answersBytes bounds the answers that the gateway keeps in process.
const answersBytes = 64 << 20

// databaseStopTimeout bounds how long the private PostgreSQL may take to end.
const databaseStopTimeout = 30 * time.Second

// Run runs the configured modules until ctx ends or one of them fails. What it starts it stops in the reverse order: modules, bus,
// cache, and the database last. Guests run on.
func Run(ctx context.Context, cfg config.Config, opts Options) (err error) {
	held := logx.Hold(os.Stderr, cfg.Log.Hold)
	defer func() { err = errors.Join(err, held.Close()) }() // last of all, so that it writes what the others said
	log, _, err := logx.New(logx.Options{Writer: held, Level: cfg.Log.Level, Format: cfg.Log.Format,
		Context: []logx.Extractor{logx.FromString("trace_id", tracing.ID), logx.FromString("request_id", httpx.RequestID)}})
	if err != nil {
		return err
	}
	slog.SetDefault(log)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP) // from here on it does not end the process
	defer signal.Stop(hangup)
	unlock, err := lockDataDir(cfg.DataDir)
	if err != nil {
		return err
	}
	defer unlock()
	started := cfg
	if err := ensureCertificate(cfg); err != nil {
		return err
	}
	log.InfoContext(ctx, "novacron starts", "version", opts.Build.Version, "commit", opts.Build.Commit, "data_dir", cfg.DataDir, "modules", strings.Join(cfg.Modules, ","))

	if cfg.Database.URL == "" && needsDatabase(cfg) {
		server := pgserver.New(pgserver.Config{DataDir: filepath.Join(cfg.DataDir, "postgres"), Log: logx.ForModule(log, "database")})
		if err := server.Start(ctx); err != nil {
			return fmt.Errorf("start private PostgreSQL: %w", err)
		}
		defer func() {
			stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), databaseStopTimeout)
			defer cancel()
			err = errors.Join(err, server.Stop(stopping))
		}()
		cfg.Database.URL = server.URL()
	}
	shared, err := openCache(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shared.Close()) }()
	answers := shared
	if cfg.Redis.URL == "" {
		answers = cache.NewMemoryBytes(answersBytes)
		defer func() { err = errors.Join(err, answers.Close()) }()
	}
	registry, err := telemetry.NewRegistry(opts.Build)
	if err != nil {
		return err
	}
	ctx, stopTraces, err := trace(ctx, cfg, opts, log, registry)
	if err != nil {
		return err
	}
	defer stopTraces()
	b := membus.NewWith(ctx)
	defer func() { err = errors.Join(err, b.Close()) }()
	build := &builder{cfg: cfg, started: started, opts: opts, log: log, bus: b, cache: shared, answers: answers, registry: registry}
	defer func() {
		for _, conn := range build.conns {
			err = errors.Join(err, conn.Close())
		}
	}()
	return build.run(ctx, hangup)
}

// tracesStopTimeout bounds how long a process that ends waits for the collector of its traces.
const tracesStopTimeout = 3 * time.Second

// trace puts the tracer of the process into ctx, where traces are sent anywhere.
func trace(ctx context.Context, cfg config.Config, opts Options, log *slog.Logger, reg prometheus.Registerer) (_ context.Context, stop func(), err error) {
	if cfg.Telemetry.Endpoint == "" {
		return ctx, func() {}, nil
	}
	to := cfg.Traces()
	to.Version = opts.Build.Version
	sender, err := otlp.New(ctx, to, log, reg)
	if err != nil {
		return ctx, nil, err
	}
	return tracing.With(ctx, sender.Tracer()), func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), tracesStopTimeout)
		defer cancel()
		if err := sender.Stop(stopping); err != nil {
			log.WarnContext(ctx, "the last traces could not be sent", "error", err)
		}
	}, nil
}

func openCache(cfg config.Config) (cache.Cache, error) {
	if cfg.Redis.URL == "" {
		return cache.NewMemory(memoryCacheEntries), nil
	}
	return cache.NewRedis(cfg.Redis.URL)
}

// run starts the modules, tells the service manager, and waits for the end.
func (b *builder) run(ctx context.Context, hangup <-chan os.Signal) error {
	graph, err := Graph(b.cfg)
	if err != nil {
		return err
	}
	modules, err := b.modules()
	if err != nil {
		return err
	}
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	stopInner, innerErr := func(context.Context) error { return nil }, error(nil)
	running, end := context.WithCancel(ctx)
	defer end()
	stopRoom := func() {}
	defer func() { stopRoom() }()
	runtime, err := topology.New(graph, modules, topology.Options{Log: b.log,
		OnRunning: func() {
			if stopInner, innerErr = b.inner(ctx); innerErr != nil {
				end()
				return
			}
			b.notify(systemd.Ready("serving"))
			go b.reloadOn(watching, hangup) // ends with watching
			go func() {                     // ends with watching
				alive := func(context.Context) error { return nil } // the process schedules goroutines, which is what a watchdog can know
				if err := systemd.Watchdog(watching, b.log, alive); err != nil {
					b.log.WarnContext(ctx, "watchdog is not served", "error", err)
				}
			}()
			if b.opts.OnRunning != nil {
				b.opts.OnRunning(b.address())
			}
			stopRoom = gcroom.Keep(b.cfg.Runtime.GCRoomBytes)
		},
		OnStopping: func(error) {
			b.notify(systemd.Stopping("stopping"))
			for _, r := range b.recorders { // while there is somebody who takes it
				r.Flush(context.WithoutCancel(ctx))
			}
			if innerErr != nil {
				return
			}
			ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.cfg.HTTP.DrainGrace)
			defer cancel()
			if err := stopInner(ending); err != nil {
				b.log.WarnContext(ctx, "requests of gateways were cut off", "error", err)
			}
		},
	})
	if err != nil {
		return err
	}
	b.runtime = runtime
	for _, r := range b.recorders {
		r.Start(audit.Remote{Bus: b.bus})
		defer r.Stop()
	}
	return errors.Join(runtime.Run(running), innerErr)
}

func (b *builder) notify(err error) {
	if err != nil {
		b.log.Warn("the service manager could not be told", "error", err)
	}
}

// address is where the gateway listens.
func (b *builder) address() string {
	if b.gateway == nil || b.gateway.Addr() == nil {
		return ""
	}
	return b.gateway.Addr().String()
}

// needsDatabase tells whether any part of the process keeps rows.
func needsDatabase(cfg config.Config) bool {
	return cfg.Has("auth") || cfg.Has("scheduler") || cfg.Has("vm") && hasController(cfg)
}

// makeDataDir makes the data folder. Others may pass through it, because PostgreSQL and QEMU run as users of their own, but not list it.
func makeDataDir(dir string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return fmt.Errorf("set mode of data folder: %w", err)
	}
	return nil
}
