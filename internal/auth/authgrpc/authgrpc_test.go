package authgrpc_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
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
	"github.com/novacron/novacron/internal/platform/grpcx/grpcxtest"
)

// authority makes the certificates of a test.
type authority struct{ grpcxtest.Authority }

func newAuthority(t testing.TB) authority {
	t.Helper()
	return authority{grpcxtest.New(t)}
}

func (a authority) serve(t testing.TB, s auth.Service, address string) *grpcx.Server {
	t.Helper()
	return a.Serve(t.Context(), t, address, func(r grpcx.Registrar) { authgrpc.Register(r, s) })
}

func (a authority) dial(t testing.TB, name, address string) *authgrpc.Client {
	t.Helper()
	return authgrpc.NewClient(a.Dial(t, name, address))
}

// Over a real connection the contract is what it is in one process.
func TestContract(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	authtest.Run(t, func(t *testing.T) authtest.Harness {
		fake := authtest.New()
		server := a.serve(t, fake, "127.0.0.1:0")
		t.Cleanup(func() { grpcxtest.Stop(server) })
		return authtest.FakeHarness{Fake: fake, Tenant: uuid.New(), Serve: a.dial(t, "gateway", server.Addr().String())}
	})
}

// Two processes of different authorities meet once the files of both hold both, without being started again.
func TestAuthoritiesFollowTheirFiles(t *testing.T) {
	t.Parallel()
	a, b := newAuthority(t), newAuthority(t)
	fake := authtest.New()
	user := fake.AddUser("u", auth.RoleAdmin, uuid.New())
	server := a.serve(t, fake, "127.0.0.1:0")
	t.Cleanup(func() { grpcxtest.Stop(server) })
	client := b.dial(t, grpcxtest.Client, server.Addr().String())
	call := func() error {
		_, err := client.ValidateToken(t.Context(), auth.ValidateTokenRequest{Token: fake.Issue(user.ID, time.Hour)})
		return err
	}
	if err := call(); err == nil {
		t.Fatal("strangers meet")
	}
	files := []string{a.Config("").CAFile, b.Config("").CAFile}
	var both []byte
	for _, f := range files {
		pem, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, pem...)
	}
	for _, f := range files {
		if err := os.WriteFile(f, both, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(time.Minute); call() != nil; <-time.After(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the new authorities are never read")
		}
	}
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
	grpcxtest.Fill(&resp)
	return resp, nil
}

func (e *echo) ValidateAPIKey(_ context.Context, req auth.ValidateAPIKeyRequest) (resp auth.ValidateAPIKeyResponse, _ error) {
	e.key = req
	grpcxtest.Fill(&resp)
	return resp, nil
}

func (e *echo) GetUserPermissions(_ context.Context, req auth.GetUserPermissionsRequest) (resp auth.GetUserPermissionsResponse, _ error) {
	e.perms = req
	grpcxtest.Fill(&resp)
	return resp, nil
}

func (e *echo) CreateAPIKey(_ context.Context, req auth.CreateAPIKeyRequest) (resp auth.CreateAPIKeyResponse, _ error) {
	e.create = req
	grpcxtest.Fill(&resp)
	return resp, nil
}

func TestNothingIsLostOnTheWay(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	e := &echo{}
	server := a.serve(t, e, "127.0.0.1:0")
	t.Cleanup(func() { grpcxtest.Stop(server) })
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
	grpcxtest.Fill(&token)
	grpcxtest.Fill(&wantToken)
	gotToken, err := c.ValidateToken(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	same("token request", e.token, token)
	same("token answer", gotToken, wantToken)

	var key auth.ValidateAPIKeyRequest
	var wantKey auth.ValidateAPIKeyResponse
	grpcxtest.Fill(&key)
	grpcxtest.Fill(&wantKey)
	gotKey, err := c.ValidateAPIKey(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	same("key request", e.key, key)
	same("key answer", gotKey, wantKey)

	var perms auth.GetUserPermissionsRequest
	var wantPerms auth.GetUserPermissionsResponse
	grpcxtest.Fill(&perms)
	grpcxtest.Fill(&wantPerms)
	gotPerms, err := c.GetUserPermissions(t.Context(), perms)
	if err != nil {
		t.Fatal(err)
	}
	same("permissions request", e.perms, perms)
	same("permissions answer", gotPerms, wantPerms)

	var create auth.CreateAPIKeyRequest
	var wantCreate auth.CreateAPIKeyResponse
	grpcxtest.Fill(&create)
	grpcxtest.Fill(&wantCreate)
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
	t.Cleanup(func() { grpcxtest.Stop(server) })
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
	t.Cleanup(func() { grpcxtest.Stop(server) })
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
	grpcxtest.Stop(server)
	if _, err := c.ValidateToken(t.Context(), auth.ValidateTokenRequest{Token: token}); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("away: %v", err)
	}
	again := a.serve(t, fake, address)
	t.Cleanup(func() { grpcxtest.Stop(again) })
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
	t.Cleanup(func() { grpcxtest.Stop(server) })
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
	b.Cleanup(func() { grpcxtest.Stop(server) })
	c := a.dial(b, "gateway", server.Addr().String())
	for b.Loop() {
		if _, err := c.ValidateToken(b.Context(), auth.ValidateTokenRequest{Token: token}); err != nil {
			b.Fatal(err)
		}
	}
}
