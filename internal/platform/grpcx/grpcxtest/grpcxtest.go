// Package grpcxtest is what tests of gRPC contracts share: certificates, servers and connections between processes, and structs with every field
// set. Only tests import it.
package grpcxtest

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/grpcx"
	"github.com/novacron/novacron/internal/platform/pki"
)

// The processes of a test, by the names in their certificates. Client may call Server, Stranger has a certificate of the same authority and may
// not.
const (
	Client   = "gateway"
	Server   = "server"
	Stranger = "stranger"
)

// Authority makes the certificates of a test.
type Authority struct{ dir string }

// New makes an Authority, and a certificate for each process.
func New(t testing.TB) Authority {
	t.Helper()
	dir := t.TempDir()
	ca, err := pki.Init(filepath.Join(dir, "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	for _, req := range []pki.Request{{Name: Client}, {Name: Server, Hosts: []string{"127.0.0.1"}}, {Name: Stranger}} {
		if _, _, err := ca.IssueTo(dir, req); err != nil {
			t.Fatal(err)
		}
	}
	return Authority{dir}
}

// Config is what a process is told.
func (a Authority) Config(name string) grpcx.Config {
	return grpcx.Config{CertFile: filepath.Join(a.dir, name+".crt"), KeyFile: filepath.Join(a.dir, name+".key"), CAFile: filepath.Join(a.dir, "ca.crt")}
}

// Serve makes Server serve contracts; Stop ends that.
func (a Authority) Serve(ctx context.Context, t testing.TB, address string, register func(grpcx.Registrar)) *grpcx.Server {
	t.Helper()
	server, err := grpcx.Listen(ctx, address, a.Config(Server), []string{Client}, slog.New(slog.DiscardHandler), register)
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// Stop ends a server.
func Stop(s *grpcx.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		panic(err)
	}
}

// Dial connects a process with a server, until the test ends.
func (a Authority) Dial(t testing.TB, name, address string) *grpcx.Conn {
	t.Helper()
	conn, err := grpcx.Dial(address, a.Config(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// Fill sets every field of what target points to, so that one that a transport forgets is seen. Of a kind that it does not know it panics.
func Fill(target any) {
	f := filler(0)
	f.walk(reflect.ValueOf(target).Elem())
}

// filler counts the values that it has set, so that no two neighbours are equal.
type filler int

func (f *filler) walk(v reflect.Value) {
	*f++
	n := int(*f)
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
			f.walk(v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.walk(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		f.walk(v.Index(0))
		f.walk(v.Index(1))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			f.walk(key)
			f.walk(value)
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		v.SetString("text " + strings.Repeat("x", n%7) + string(rune('a'+n%26)))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(n))
	case reflect.Bool:
		v.SetBool(true)
	default:
		panic("a kind that no contract had: " + v.Kind().String())
	}
}
