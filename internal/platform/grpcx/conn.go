package grpcx

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/hop"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/pki"
	"github.com/novacron/novacron/internal/platform/tracing"
)

// Config is what both sides of a connection are told.
type Config struct {
	CertFile, KeyFile, CAFile string // PEM: what this process shows, and the authorities of the others
}

func (c Config) load() (*pki.Pair, *pki.Authorities, error) {
	pair, err := pki.LoadPair(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("internal: %w", err)
	}
	authorities, err := pki.LoadAuthorities(c.CAFile)
	if err != nil {
		return nil, nil, fmt.Errorf("internal.ca_file: %w", err)
	}
	return pair, authorities, nil
}

// current are credentials of a client that are made anew for each connection, by the authorities of then.
type current struct {
	credentials.TransportCredentials
	now func() credentials.TransportCredentials
}

// ClientHandshake implements credentials.TransportCredentials.
func (c current) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.now().ClientHandshake(ctx, authority, conn)
}

// Clone implements credentials.TransportCredentials.
func (c current) Clone() credentials.TransportCredentials { return c }

// CallTimeout is how long a call may take where nobody says so.
const CallTimeout = 10 * time.Second

// maxMessage has room for a page of 500 virtual machines with all the tags that they may have.
const maxMessage = 16 << 20

// The names of metadata that travel with a call.
const (
	requestID  = "x-request-id"
	callerName = "x-novacron-caller" // the principal for whom it is made, signed as package hop does
)

// Registrar is what contracts are added to.
type Registrar = grpc.ServiceRegistrar

// Conn is a connection to a module in another process.
type Conn = grpc.ClientConn

// Server serves contracts to processes of the same installation.
type Server struct {
	grpc *grpc.Server
	l    net.Listener
	done chan error
}

// Listen makes a Server. register adds contracts to it. peers are the common names of the certificates that may call.
func Listen(ctx context.Context, address string, cfg Config, peers []string, log *slog.Logger, register func(Registrar)) (*Server, error) {
	pair, authorities, err := cfg.load()
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s (internal.grpc_listen): %w", address, err)
	}
	callers := verifiers{}
	s := &Server{l: l, done: make(chan error, 1), grpc: grpc.NewServer(
		grpc.Creds(credentials.NewTLS(pki.MutualConfig(pair, authorities, tls.RequireAndVerifyClientCert, "h2"))), grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.ConnectionTimeout(CallTimeout), grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: 15 * time.Minute, Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(serve(tracing.From(ctx), peers, callers, log)))}
	register(s.grpc)
	for service := range s.grpc.GetServiceInfo() {
		callers[moduleOf(service)] = hop.NewVerifier(moduleOf(service))
	}
	go func() { s.done <- s.grpc.Serve(l) }() // ends with Stop
	return s, nil
}

// Addr is where it listens.
func (s *Server) Addr() net.Addr { return s.l.Addr() }

// Stop lets no new call in and waits for those that run, until ctx ends.
func (s *Server) Stop(ctx context.Context) error {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.grpc.GracefulStop()
	}()
	select {
	case <-stopped:
	case <-ctx.Done():
		s.grpc.Stop()
		<-stopped
	}
	return <-s.done
}

// refusal is ErrRefused as the side that refuses says it.
func refusal() error {
	return ToStatus(errs.New(errs.Forbidden, ErrRefused.Code, ErrRefused.Message).WithAction(ErrRefused.Action))
}

// serve checks which process calls and for whom, puts principal, request id and trace into the context, and turns errors and panics into what travels.
func serve(tracer *tracing.Tracer, peers []string, callers verifiers, log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
		certificate, name := shown(ctx)
		if !slices.Contains(peers, name) {
			log.WarnContext(ctx, "call refused", "method", info.FullMethod, "certificate", name)
			return nil, refusal()
		}
		md, _ := metadata.FromIncomingContext(ctx)
		if ctx, err = callers.with(ctx, certificate, md.Get(callerName), info.FullMethod); err != nil {
			log.WarnContext(ctx, "call refused", "method", info.FullMethod, "certificate", name, "error", err)
			return nil, refusal()
		}
		ctx = httpx.WithRequest(ctx, first(md, requestID), info.FullMethod)
		ctx = tracing.FromPeer(tracing.With(ctx, tracer), func(name string) string { return first(md, name) })
		ctx, span := tracing.Enter(ctx, tracing.Server, info.FullMethod, tracing.String("novacron.request_id", httpx.RequestID(ctx)))
		defer func() {
			if p := recover(); p != nil {
				log.ErrorContext(ctx, "handler panicked", "method", info.FullMethod, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				span.End(errs.ErrInternal)
				err = ToStatus(errs.ErrInternal)
			}
		}()
		resp, err = handler(ctx, req)
		span.End(err)
		if err == nil {
			return resp, nil
		}
		if errs.From(err).Kind == errs.Internal && !errors.Is(err, context.Canceled) {
			log.ErrorContext(ctx, "call failed", "method", info.FullMethod, "error", err)
		}
		return nil, ToStatus(err)
	}
}

func first(md metadata.MD, name string) string {
	if list := md.Get(name); len(list) > 0 {
		return list[0]
	}
	return ""
}

// Dial makes a connection to a module in another process, HOST:PORT. It connects when it is first used, and again whenever it has to.
func Dial(address string, cfg Config) (*Conn, error) {
	pair, authorities, err := cfg.load()
	if err != nil {
		return nil, err
	}
	now := func() credentials.TransportCredentials {
		return credentials.NewTLS(pki.ClientConfig(pair, authorities.Pool()))
	}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(current{now(), now}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}),
		grpc.WithUnaryInterceptor(call(hop.NewSigner(pair.Certificate))))
	if err != nil {
		return nil, fmt.Errorf("prepare connection to %s: %w", address, err)
	}
	return conn, nil
}

// call sends principal, request id and trace along, bounds the call, and gives the error of the other side.
func call(signer *hop.Signer) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if _, bounded := ctx.Deadline(); !bounded {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, CallTimeout)
			defer cancel()
		}
		var pairs []string
		if id := httpx.RequestID(ctx); id != "" {
			pairs = append(pairs, requestID, id)
		}
		if p, known := identity.From(ctx); known {
			token, err := signer.Sign(moduleOf(method), p, true)
			if err != nil {
				return fmt.Errorf("sign the caller of %s: %w", method, err)
			}
			pairs = append(pairs, callerName, token)
		}
		ctx, span := tracing.Start(ctx, tracing.Client, method, tracing.String("server.address", conn.Target()))
		tracing.Inject(ctx, func(name, value string) { pairs = append(pairs, name, value) })
		err := FromStatus(invoker(metadata.AppendToOutgoingContext(ctx, pairs...), method, req, reply, conn, opts...))
		span.End(err)
		return err
	}
}
