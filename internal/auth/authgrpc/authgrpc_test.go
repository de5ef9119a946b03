package authgrpc_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/authgrpc"
	"github.com/novacron/novacron/internal/auth/authtest"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/grpcx"
	"github.com/novacron/novacron/internal/platform/pki"
)

// authority makes the certificates of a test.
type authority struct{ dir string }

func newAuthority(t testing.TB) authority {
	t.Helper()
	dir := t.TempDir()
	ca, err := pki.Init(filepath.Join(dir, "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	for _, req := range []pki.Request{{Name: "gateway"}, {Name: "auth", Hosts: []string{"127.0.0.1"}}, {Name: "stranger"}} {
		if _, _, err := ca.IssueTo(dir, req); err != nil {
			t.Fatal(err)
		}
	}
	return authority{dir}
}

func (a authority) config(name string) grpcx.Config {
	return grpcx.Config{CertFile: filepath.Join(a.dir, name+".crt"), KeyFile: filepath.Join(a.dir, name+".key"), CAFile: filepath.Join(a.dir, "ca.crt")}
}

func (a authority) serve(t testing.TB, s auth.Service, address string) *grpcx.Server {
	t.Helper()
	server, err := grpcx.Listen(t.Context(), address, a.config("auth"), []string{"gateway"}, slog.New(slog.DiscardHandler),
		func(r grpcx.Registrar) { authgrpc.Register(r, s) })
	if err != nil {
		t.Fatal(err)
	}
	return server
}

func stop(s *grpcx.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		panic(err)
	}
}

func (a authority) dial(t testing.TB, name, address string) *authgrpc.Client {
	t.Helper()
	conn, err := grpcx.Dial(address, a.config(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return authgrpc.NewClient(conn)
}

// Over a real connection the contract is what it is in one process.
func TestContract(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	authtest.Run(t, func(t *testing.T) authtest.Harness {
		fake := authtest.New()
		server := a.serve(t, fake, "127.0.0.1:0")
		t.Cleanup(func() { stop(server) })
		return authtest.FakeHarness{Fake: fake, Tenant: uuid.New(), Serve: a.dial(t, "gateway", server.Addr().String())}
	})
}

// echo answers with what it was asked, every field of it set.
type echo struct {
	authtest.Fake
	token  auth.ValidateTokenRequest
	key    auth.ValidateAPIKeyRequest
	create auth.CreateAPIKeyRequest
	perms  auth.GetUserPermissionsRequest
}

func (e *echo) ValidateToken(_ context.Context, req auth.ValidateTokenRequest) (resp auth.ValidateTokenResponse, _ error) {
	e.token = req
	fill(&resp)
	return resp, nil
}

func (e *echo) ValidateAPIKey(_ context.Context, req auth.ValidateAPIKeyRequest) (resp auth.ValidateAPIKeyResponse, _ error) {
	e.key = req
	fill(&resp)
	return resp, nil
}

func (e *echo) GetUserPermissions(_ context.Context, req auth.GetUserPermissionsRequest) (resp auth.GetUserPermissionsResponse, _ error) {
	e.perms = req
	fill(&resp)
	return resp, nil
}

func (e *echo) CreateAPIKey(_ context.Context, req auth.CreateAPIKeyRequest) (resp auth.CreateAPIKeyResponse, _ error) {
	e.create = req
	fill(&resp)
	return resp, nil
}

// fill sets every field of a struct, so that one that the transport forgets is seen.
func fill(target any) {
	n := 0
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		n++
		switch v.Interface().(type) {
		case uuid.UUID:
			v.Set(reflect.ValueOf(uuid.NewSHA1(uuid.Nil, []byte{byte(n)})))
			return
		case time.Time:
			v.Set(reflect.ValueOf(time.Date(2026, 11, 23, 1, 2, n%60, 4000, time.UTC)))
			return
		case netip.Addr:
			v.Set(reflect.ValueOf(netip.MustParseAddr("192.0.2.7")))
			return
		}
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				walk(v.Field(i))
			}
		case reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
			walk(v.Elem())
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 2, 2))
			walk(v.Index(0))
			walk(v.Index(1))
		case reflect.String:
			v.SetString("text " + strings.Repeat("x", n%7) + string(rune('a'+n%26)))
		case reflect.Int64:
			v.SetInt(int64(n))
		case reflect.Bool:
			v.SetBool(true)
		default:
			panic("a kind that the contract did not have: " + v.Kind().String())
		}
	}
	walk(reflect.ValueOf(target).Elem())
}

func TestNothingIsLostOnTheWay(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	e := &echo{}
	server := a.serve(t, e, "127.0.0.1:0")
	t.Cleanup(func() { stop(server) })
	c := a.dial(t, "gateway", server.Addr().String())
	addrs := cmp.Comparer(func(x, y netip.Addr) bool { return x == y })
	same := func(what string, got, want any) {
		t.Helper()
		if diff := cmp.Diff(want, got, addrs); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	var token auth.ValidateTokenRequest
	var wantToken auth.ValidateTokenResponse
	fill(&token)
	fill(&wantToken)
	gotToken, err := c.ValidateToken(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	same("token request", e.token, token)
	same("token answer", gotToken, wantToken)

	var key auth.ValidateAPIKeyRequest
	var wantKey auth.ValidateAPIKeyResponse
	fill(&key)
	fill(&wantKey)
	gotKey, err := c.ValidateAPIKey(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	same("key request", e.key, key)
	same("key answer", gotKey, wantKey)

	var perms auth.GetUserPermissionsRequest
	var wantPerms auth.GetUserPermissionsResponse
	fill(&perms)
	fill(&wantPerms)
	gotPerms, err := c.GetUserPermissions(t.Context(), perms)
	if err != nil {
		t.Fatal(err)
	}
	same("permissions request", e.perms, perms)
	same("permissions answer", gotPerms, wantPerms)

	var create auth.CreateAPIKeyRequest
	var wantCreate auth.CreateAPIKeyResponse
	fill(&create)
	fill(&wantCreate)
	gotCreate, err := c.CreateAPIKey(t.Context(), create)
	if err != nil {
		t.Fatal(err)
	}
	same("create request", e.create, create)
	same("create answer", gotCreate, wantCreate)

	// The absent list and the empty one are two things.
	for _, list := range [][]string{nil, {}} {
		create.Permissions = list
		if _, err := c.CreateAPIKey(t.Context(), create); err != nil || (e.create.Permissions == nil) != (list == nil) {
			t.Errorf("permissions %#v arrive as %#v: %v", list, e.create.Permissions, err)
		}
	}
}

// refusing fails with an error that has everything an error can have.
type refusing struct {
	echo
	err error
}

func (r *refusing) ValidateToken(context.Context, auth.ValidateTokenRequest) (auth.ValidateTokenResponse, error) {
	return auth.ValidateTokenResponse{}, r.err
}

func TestErrorsComeOutAsTheyWentIn(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	r := &refusing{}
	server := a.serve(t, r, "127.0.0.1:0")
	t.Cleanup(func() { stop(server) })
	c := a.dial(t, "gateway", server.Addr().String())
	for _, e := range auth.Errors() {
		full := e.WithMeta("a", "b").WithField("body.x", "is wrong", "y").WithAction("Do this.").AtStep("reserve").WithRetryable(!e.Retryable).
			WithMessage("with ümlaut").Wrap(errors.New("hidden inside"))
		r.err = full
		_, err := c.ValidateToken(t.Context(), auth.ValidateTokenRequest{Token: "x"})
		var got *errs.Error
		if !errors.As(err, &got) || string(errs.Encode(got)) != string(errs.Encode(full)) {
			t.Errorf("%s came out as %v", e.Code, err)
		}
		if err != nil && strings.Contains(err.Error(), "hidden inside") {
			t.Errorf("the cause travelled: %v", err)
		}
	}
}

func TestWhoMayCall(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	server := a.serve(t, authtest.New(), "127.0.0.1:0")
	t.Cleanup(func() { stop(server) })
	_, err := a.dial(t, "stranger", server.Addr().String()).ValidateToken(t.Context(), auth.ValidateTokenRequest{Token: "x"})
	if !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("a process that is not one of ours: %v", err)
	}
	other := newAuthority(t)
	if _, err := other.dial(t, "gateway", server.Addr().String()).ValidateToken(t.Context(), auth.ValidateTokenRequest{Token: "x"}); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("a certificate of another authority: %v", err)
	}
}

// A module that is away is not a token that is bad; when it is back it answers again.
func TestAwayAndBack(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	fake := authtest.New()
	token := fake.Issue(fake.AddUser("ada", auth.RoleViewer, uuid.New()).ID, time.Hour)
	server := a.serve(t, fake, "127.0.0.1:0")
	address := server.Addr().String()
	c := a.dial(t, "gateway", address)
	if _, err := c.ValidateToken(t.Context(), auth.ValidateTokenRequest{Token: token}); err != nil {
		t.Fatal(err)
	}
	stop(server)
	if _, err := c.ValidateToken(t.Context(), auth.ValidateTokenRequest{Token: token}); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("away: %v", err)
	}
	again := a.serve(t, fake, address)
	t.Cleanup(func() { stop(again) })
	deadline := time.Now().Add(30 * time.Second)
	for {
		if _, err := c.ValidateToken(t.Context(), auth.ValidateTokenRequest{Token: token}); err == nil {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("back: %v", err)
		}
		<-time.After(50 * time.Millisecond)
	}
}

func TestWhatIsNoTextIsRefusedAsInOneProcess(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	server := a.serve(t, authtest.New(), "127.0.0.1:0")
	t.Cleanup(func() { stop(server) })
	c := a.dial(t, "gateway", server.Addr().String())
	for _, text := range []string{"", "\xff\xfe", strings.Repeat("a", auth.MaxTokenBytes+1), "a\x00b"} {
		if _, err := c.ValidateToken(t.Context(), auth.ValidateTokenRequest{Token: text}); !errors.Is(err, auth.ErrInvalidToken) {
			t.Errorf("token %.20q: %v", text, err)
		}
	}
}

func BenchmarkValidateToken(b *testing.B) {
	a := newAuthority(b)
	fake := authtest.New()
	token := fake.Issue(fake.AddUser("ada", auth.RoleViewer, uuid.New()).ID, time.Hour)
	server := a.serve(b, fake, "127.0.0.1:0")
	b.Cleanup(func() { stop(server) })
	c := a.dial(b, "gateway", server.Addr().String())
	for b.Loop() {
		if _, err := c.ValidateToken(b.Context(), auth.ValidateTokenRequest{Token: token}); err != nil {
			b.Fatal(err)
		}
	}
}
