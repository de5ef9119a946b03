package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/novacron/novacron/internal/auth/authgrpc"
	"github.com/novacron/novacron/internal/gateway"
	"github.com/novacron/novacron/internal/platform/grpcx"
	"github.com/novacron/novacron/internal/platform/hop"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/logx"
	"github.com/novacron/novacron/internal/vm/vmgrpc"
)

// inner answers other processes of the installation, where the configuration says so. It gives what ends that.
func (b *builder) inner(ctx context.Context) (stop func(context.Context) error, err error) {
	calls, err := b.serveContracts(ctx)
	if err != nil {
		return nil, err
	}
	gateways, err := b.serveGateways(ctx)
	if err != nil {
		return nil, errors.Join(err, calls(ctx))
	}
	return func(ctx context.Context) error { return errors.Join(gateways(ctx), calls(ctx)) }, nil
}

// serveContracts answers calls of modules in other processes.
func (b *builder) serveContracts(ctx context.Context) (stop func(context.Context) error, err error) {
	address := b.cfg.Internal.GRPCListen
	if address == "" {
		return func(context.Context) error { return nil }, nil
	}
	if b.auth == nil && b.vm == nil {
		return nil, errors.New("internal.grpc_listen: this process runs no module that others can call; auth and vm's controller are such")
	}
	server, err := grpcx.Listen(ctx, address, b.cfg.GRPC(), b.cfg.Internal.Peers, b.log, func(r grpcx.Registrar) {
		if b.auth != nil {
			authgrpc.Register(r, b.auth)
		}
		if b.vm != nil {
			vmgrpc.Register(r, b.vm)
		}
	})
	if err != nil {
		return nil, err
	}
	b.log.InfoContext(ctx, "calls of other processes are answered", "address", server.Addr().String())
	return server.Stop, nil
}

// serveGateways shows the one module of this process to gateways.
func (b *builder) serveGateways(ctx context.Context) (stop func(context.Context) error, err error) {
	cfg := b.cfg.Inner()
	if cfg.Listen == "" {
		return func(context.Context) error { return nil }, nil
	}
	if len(b.surfaces) != 1 {
		return nil, fmt.Errorf("internal.listen: this process runs %d modules with routes; a process that shows itself to gateways runs one", len(b.surfaces))
	}
	module := b.surfaces[0]
	log := logx.ForModule(b.log, module.Name())
	h := hop.Mount(module, hop.NewVerifier(module.Name(), cfg.Gateways...), log, map[string]http.Handler{
		"/health": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, http.StatusOK, gateway.Health{Status: "ok"})
		}),
		"/ready": http.HandlerFunc(b.serveReady),
		"/metrics": promhttp.HandlerFor(b.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, EnableOpenMetrics: true,
			MaxRequestsInFlight: 4}),
	})
	server, err := hop.Serve(ctx, cfg, h)
	if err != nil {
		return nil, err
	}
	log.InfoContext(ctx, "module listens for gateways", "address", server.Addr().String())
	if b.opts.OnInner != nil {
		b.opts.OnInner(server.Addr().String())
	}
	return server.Stop, nil
}

// serveReady says whether the modules of this process can work, in the form of the gateway's own answer.
func (b *builder) serveReady(w http.ResponseWriter, r *http.Request) {
	answer, status := gateway.Readiness{Status: gateway.StatusReady, Modules: map[string]gateway.ModuleReadiness{}}, http.StatusOK
	for name, err := range b.readiness(r.Context()) {
		state := gateway.ModuleReadiness{Ready: err == nil}
		if err != nil {
			state.Error = httpx.ProblemFor(r.Context(), r.URL.Path, err).Code
			answer.Status, status = gateway.StatusNotReady, http.StatusServiceUnavailable
		}
		answer.Modules[name] = state
	}
	writeJSON(w, status, answer)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}
