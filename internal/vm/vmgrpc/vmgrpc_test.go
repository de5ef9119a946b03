package vmgrpc_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/grpc/metadata"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/grpcx"
	"github.com/novacron/novacron/internal/platform/grpcx/grpcxtest"
	"github.com/novacron/novacron/internal/platform/hop"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/pki"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/vmgrpc"
	"github.com/novacron/novacron/internal/vm/vmtest"
)

// serve serves a vm.Service until the test ends, and gives a client of it in another process.
func serve(t *testing.T, s vm.Service) *vmgrpc.Client {
	t.Helper()
	a := grpcxtest.New(t)
	server := a.Serve(t.Context(), t, "127.0.0.1:0", func(r grpcx.Registrar) { vmgrpc.Register(r, s) })
	t.Cleanup(func() { grpcxtest.Stop(server) })
	return vmgrpc.NewClient(a.Dial(t, grpcxtest.Client, server.Addr().String()))
}

// Over a real connection the contract is what it is in one process.
func TestContract(t *testing.T) {
	t.Parallel()
	vmtest.Run(t, func(t *testing.T) vmtest.Harness {
		fake := vmtest.New()
		return vmtest.FakeHarness{Fake: fake, Serve: serve(t, fake)}
	})
}

// echo keeps what it was asked and answers with every field set, or with an error.
type echo struct {
	asked any
	by    identity.Principal
	known bool
	left  time.Duration // of the time of the call
	fails error
}

func answer[T any](ctx context.Context, e *echo, asked any) (resp T, _ error) {
	e.asked = asked
	e.by, e.known = identity.From(ctx)
	if deadline, bounded := ctx.Deadline(); bounded {
		e.left = time.Until(deadline)
	}
	grpcxtest.Fill(&resp)
	return resp, e.fails
}

func (e *echo) CreateVM(ctx context.Context, req vm.CreateVMRequest) (vm.CreateVMResponse, error) {
	return answer[vm.CreateVMResponse](ctx, e, req)
}

func (e *echo) GetVMStatus(ctx context.Context, req vm.GetVMStatusRequest) (vm.GetVMStatusResponse, error) {
	return answer[vm.GetVMStatusResponse](ctx, e, req)
}

func (e *echo) ListVMs(ctx context.Context, req vm.ListVMsRequest) (vm.ListVMsResponse, error) {
	return answer[vm.ListVMsResponse](ctx, e, req)
}

func (e *echo) StartVM(ctx context.Context, req vm.StartVMRequest) (vm.StartVMResponse, error) {
	return answer[vm.StartVMResponse](ctx, e, req)
}

func (e *echo) StopVM(ctx context.Context, req vm.StopVMRequest) (vm.StopVMResponse, error) {
	return answer[vm.StopVMResponse](ctx, e, req)
}

func (e *echo) DeleteVM(ctx context.Context, req vm.DeleteVMRequest) (vm.DeleteVMResponse, error) {
	return answer[vm.DeleteVMResponse](ctx, e, req)
}

func (e *echo) MigrateVM(ctx context.Context, req vm.MigrateVMRequest) (vm.MigrateVMResponse, error) {
	return answer[vm.MigrateVMResponse](ctx, e, req)
}

func (e *echo) GetOperation(ctx context.Context, req vm.GetOperationRequest) (vm.GetOperationResponse, error) {
	return answer[vm.GetOperationResponse](ctx, e, req)
}

// methods calls each with every method of the contract, as the contract has them.
func methods(c vm.Service, each func(name string, call func(ctx context.Context, req reflect.Value) (any, error), request, response reflect.Type)) {
	contract := reflect.TypeFor[vm.Service]()
	for i := range contract.NumMethod() {
		m := contract.Method(i)
		each(m.Name, func(ctx context.Context, req reflect.Value) (any, error) {
			out := reflect.ValueOf(c).MethodByName(m.Name).Call([]reflect.Value{reflect.ValueOf(ctx), req})
			err, _ := out[1].Interface().(error)
			return out[0].Interface(), err
		}, m.Type.In(1), m.Type.Out(0))
	}
}

func TestNothingIsLostOnTheWay(t *testing.T) {
	t.Parallel()
	e := &echo{}
	methods(serve(t, e), func(name string, call func(context.Context, reflect.Value) (any, error), request, response reflect.Type) {
		req, want := reflect.New(request), reflect.New(response)
		grpcxtest.Fill(req.Interface())
		grpcxtest.Fill(want.Interface())
		got, err := call(t.Context(), req.Elem())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(req.Elem().Interface(), e.asked); diff != "" {
			t.Errorf("request of %s (-sent +arrived):\n%s", name, diff)
		}
		if diff := cmp.Diff(want.Elem().Interface(), got); diff != "" {
			t.Errorf("answer of %s (-sent +arrived):\n%s", name, diff)
		}
		if _, err := call(t.Context(), reflect.Zero(request)); err != nil {
			t.Fatalf("%s of nothing: %v", name, err)
		}
		if diff := cmp.Diff(reflect.Zero(request).Interface(), e.asked, cmp.Comparer(func(x, y map[string]string) bool { return len(x) == 0 && len(y) == 0 })); diff != "" {
			t.Errorf("empty request of %s (-sent +arrived):\n%s", name, diff)
		}
	})
}

// What is absent and what is empty or zero are two things where the contract says so.
func TestAbsentIsNotEmpty(t *testing.T) {
	t.Parallel()
	e := &echo{}
	c := serve(t, e)
	nobody, atOnce := uuid.Nil, time.Duration(0)
	for _, groups := range [][]uuid.UUID{nil, {}, {uuid.New()}} {
		req := vm.CreateVMRequest{Interfaces: []vm.InterfaceRequest{{SecurityGroups: groups}}}
		if _, err := c.CreateVM(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		if got := e.asked.(vm.CreateVMRequest).Interfaces; !cmp.Equal(got, req.Interfaces) {
			t.Errorf("groups %#v arrive as %#v", groups, got)
		}
	}
	for _, node := range []*uuid.UUID{nil, &nobody} {
		if _, err := c.MigrateVM(t.Context(), vm.MigrateVMRequest{NodeID: node}); err != nil || !cmp.Equal(e.asked, any(vm.MigrateVMRequest{NodeID: node})) {
			t.Errorf("node %v arrives as %+v, error %v", node, e.asked, err)
		}
	}
	for _, grace := range []*time.Duration{nil, &atOnce} {
		if _, err := c.StopVM(t.Context(), vm.StopVMRequest{Grace: grace}); err != nil || !cmp.Equal(e.asked, any(vm.StopVMRequest{Grace: grace})) {
			t.Errorf("grace %v arrives as %+v, error %v", grace, e.asked, err)
		}
	}
}

func TestErrorsComeOutAsTheyWentIn(t *testing.T) {
	t.Parallel()
	e := &echo{}
	c := serve(t, e)
	for _, want := range vm.Errors() {
		full := want.WithMeta("a", "b").WithField("body.x", "is wrong", "y").WithAction("Do this.").AtStep("place").WithRetryable(!want.Retryable).
			WithMessage("with ümlaut").Wrap(errors.New("hidden inside"))
		e.fails = full
		methods(c, func(name string, call func(context.Context, reflect.Value) (any, error), request, response reflect.Type) {
			got, err := call(t.Context(), reflect.Zero(request))
			var came *errs.Error
			if !errors.As(err, &came) || string(errs.Encode(came)) != string(errs.Encode(full)) || strings.Contains(err.Error(), "hidden inside") {
				t.Errorf("%s: %s came out as %v", name, want.Code, err)
			}
			if !reflect.ValueOf(got).IsZero() || reflect.TypeOf(got) != response {
				t.Errorf("%s answered %+v beside its error", name, got)
			}
		})
	}
}

// Whom a call is made for crosses whole, and nobody is nobody.
func TestPrincipalsCross(t *testing.T) {
	t.Parallel()
	e := &echo{}
	var want identity.Principal
	grpcxtest.Fill(&want)
	methods(serve(t, e), func(name string, call func(context.Context, reflect.Value) (any, error), request, _ reflect.Type) {
		for range 2 { // the second time with the same token
			if _, err := call(identity.With(t.Context(), want), reflect.Zero(request)); err != nil || !e.known || !cmp.Equal(e.by, want) {
				t.Errorf("%s is made for %+v, known: %t, error %v", name, e.by, e.known, err)
			}
		}
		if _, err := call(t.Context(), reflect.Zero(request)); err != nil || e.known {
			t.Errorf("%s is made for %+v instead of nobody, error %v", name, e.by, err)
		}
	})
}

func TestForgedCallersAreRefused(t *testing.T) {
	t.Parallel()
	e := &echo{}
	a := grpcxtest.New(t)
	server := a.Serve(t.Context(), t, "127.0.0.1:0", func(r grpcx.Registrar) { vmgrpc.Register(r, e) })
	t.Cleanup(func() { grpcxtest.Stop(server) })
	c := vmgrpc.NewClient(a.Dial(t, grpcxtest.Client, server.Addr().String()))
	sign := func(process, module string) string {
		cfg := a.Config(process)
		pair, err := pki.LoadPair(cfg.CertFile, cfg.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		token, err := hop.NewSigner(pair.Certificate).Sign(module, identity.Principal{UserID: uuid.New(), Permissions: []string{"*"}}, true)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	ask := func(ctx context.Context, tokens ...string) error {
		e.asked = nil
		for _, token := range tokens {
			ctx = metadata.AppendToOutgoingContext(ctx, "x-novacron-caller", token)
		}
		_, err := c.GetVMStatus(ctx, vm.GetVMStatusRequest{VMID: uuid.New()})
		return err
	}
	good := sign(grpcxtest.Client, "vm")
	if err := ask(t.Context(), good); err != nil || !e.known {
		t.Errorf("signed by the process that calls: known %t, error %v", e.known, err)
	}
	for name, tokens := range map[string][]string{
		"for another module": {sign(grpcxtest.Client, "auth")}, "by another process": {sign(grpcxtest.Stranger, "vm")}, "two": {good, good},
		"nothing": {""}, "words": {"administrator"}, "cut": {good[:len(good)-4]}, "unsigned": {"eyJhbGciOiJub25lIn0.eyJrbm93biI6dHJ1ZX0."},
	} {
		if err := ask(t.Context(), tokens...); !errors.Is(err, grpcx.ErrRefused) || e.asked != nil {
			t.Errorf("%s: reached %+v, error %v", name, e.asked, err)
		}
	}
	if err := ask(identity.With(t.Context(), identity.Principal{}), good); !errors.Is(err, grpcx.ErrRefused) || e.asked != nil {
		t.Errorf("a principal beside one of the context: reached %+v, error %v", e.asked, err)
	}
}

func TestWhoMayCall(t *testing.T) {
	t.Parallel()
	a, other := grpcxtest.New(t), grpcxtest.New(t)
	server := a.Serve(t.Context(), t, "127.0.0.1:0", func(r grpcx.Registrar) { vmgrpc.Register(r, vmtest.New()) })
	t.Cleanup(func() { grpcxtest.Stop(server) })
	address := server.Addr().String()
	_, err := vmgrpc.NewClient(a.Dial(t, grpcxtest.Stranger, address)).ListVMs(t.Context(), vm.ListVMsRequest{})
	if !errors.Is(err, grpcx.ErrRefused) || errs.From(err).Kind != errs.Unavailable { // the user is not told that they may not
		t.Errorf("a process that is not one of ours: %v", err)
	}
	_, err = vmgrpc.NewClient(other.Dial(t, grpcxtest.Client, address)).ListVMs(t.Context(), vm.ListVMsRequest{})
	if !errors.Is(err, grpcx.ErrUnreachable) {
		t.Errorf("a certificate of another authority: %v", err)
	}
}

// A module that is away is not a machine that is gone; when it is back it answers again.
func TestAwayAndBack(t *testing.T) {
	t.Parallel()
	a, fake := grpcxtest.New(t), vmtest.New()
	register := func(r grpcx.Registrar) { vmgrpc.Register(r, fake) }
	server := a.Serve(t.Context(), t, "127.0.0.1:0", register)
	address := server.Addr().String()
	c := vmgrpc.NewClient(a.Dial(t, grpcxtest.Client, address))
	ctx := identity.With(t.Context(), identity.Principal{UserID: uuid.New(), TenantID: uuid.New(), Permissions: []string{"*"}, Scope: identity.ScopeTenant})
	if _, err := c.ListVMs(ctx, vm.ListVMsRequest{}); err != nil {
		t.Fatal(err)
	}
	grpcxtest.Stop(server)
	if _, err := c.ListVMs(ctx, vm.ListVMsRequest{}); !errors.Is(err, grpcx.ErrUnreachable) || !errs.Retryable(err) {
		t.Errorf("away: %v", err)
	}
	again := a.Serve(t.Context(), t, address, register)
	t.Cleanup(func() { grpcxtest.Stop(again) })
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; <-tick.C {
		if _, err := c.ListVMs(ctx, vm.ListVMsRequest{}); err == nil {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("back: %v", err)
		}
	}
}

// A call that waits for an operation has the time for it.
func TestWaitingHasItsTime(t *testing.T) {
	t.Parallel()
	e := &echo{}
	c := serve(t, e)
	for wait, want := range map[time.Duration]time.Duration{0: grpcx.CallTimeout, -time.Hour: grpcx.CallTimeout, time.Minute: time.Minute + grpcx.CallTimeout,
		time.Hour: vm.MaxWait + grpcx.CallTimeout} {
		if _, err := c.GetOperation(t.Context(), vm.GetOperationRequest{Wait: wait}); err != nil || e.left > want || e.left < want-grpcx.CallTimeout {
			t.Errorf("waiting for %v has %v, want %v, error %v", wait, e.left, want, err)
		}
	}
}

// crowded answers with the largest page that there can be.
type crowded struct{ echo }

func (c *crowded) ListVMs(context.Context, vm.ListVMsRequest) (resp vm.ListVMsResponse, _ error) {
	for range 500 {
		var m vm.VM
		grpcxtest.Fill(&m)
		m.Description, m.Tags = strings.Repeat("d", 1024), map[string]string{}
		for i := range 64 {
			m.Tags[fmt.Sprintf("%0128d", i)] = strings.Repeat("v", 256)
		}
		resp.VMs = append(resp.VMs, m)
	}
	return resp, nil
}

func TestTheLargestPageFits(t *testing.T) {
	t.Parallel()
	s := &crowded{}
	want, _ := s.ListVMs(t.Context(), vm.ListVMsRequest{})
	got, err := serve(t, s).ListVMs(t.Context(), vm.ListVMsRequest{Limit: 500})
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("%d machines arrive, error %v", len(got.VMs), err)
	}
}
