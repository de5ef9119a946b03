package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// shake connects a client to a server and gives what each side says of it.
func shake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		defer a.Close()
		s := tls.Server(a, server)
		_ = s.SetDeadline(time.Now().Add(10 * time.Second))
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte("x"))
		}
		done <- err
	}()
	c := tls.Client(b, client)
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	clientErr = c.Handshake()
	if clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1)) // with TLS 1.3 a refused certificate shows with the first read
	}
	if clientErr != nil {
		b.Close()
	}
	return <-done, clientErr
}

func TestMutualTLS(t *testing.T) {
	dir := t.TempDir()
	ca, err := OpenOrInit(filepath.Join(dir, "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Init(filepath.Join(dir, "ca"), "test"); !errors.Is(err, ErrExists) {
		t.Errorf("made twice: %v", err)
	}
	again, err := OpenOrInit(filepath.Join(dir, "ca"), "test")
	if err != nil || string(again.CertPEM()) != string(ca.CertPEM()) {
		t.Errorf("opened again: %v", err)
	}
	pair := func(ca *CA, req Request) *Pair {
		t.Helper()
		cert, key, err := ca.IssueTo(t.TempDir(), req)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("key file: %v %v", info.Mode(), err)
		}
		p, err := LoadPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	pool, err := Pool(filepath.Join(dir, "ca", caCertFile))
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := Init(filepath.Join(dir, "stranger"), "stranger")
	if err != nil {
		t.Fatal(err)
	}
	server := ServerConfig(pair(ca, Request{Name: "server", Hosts: []string{"node-1", "192.0.2.1"}}), pool)
	good := pair(ca, Request{Name: "client"})
	client := func(p *Pair, pool *x509.CertPool, name string) *tls.Config {
		c := ClientConfig(p, pool)
		c.ServerName = name
		return c
	}
	for name, c := range map[string]*tls.Config{"by name": client(good, pool, "node-1"), "by address": client(good, pool, "192.0.2.1")} {
		if s, c := shake(t, server, c); s != nil || c != nil {
			t.Errorf("%s: %v, %v", name, s, c)
		}
	}
	for name, c := range map[string]*tls.Config{
		"another host": client(good, pool, "node-2"), "an authority of nobody": client(good, nil, "node-1"),
		"no certificate": client(nil, pool, "node-1"), "a stranger's certificate": client(pair(stranger, Request{Name: "client"}), pool, "node-1"),
	} {
		if _, err := shake(t, server, c); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	// A certificate for clients must not serve.
	if _, err := shake(t, ServerConfig(good, nil), client(nil, pool, "client")); err == nil {
		t.Error("a client's certificate serves")
	}
}

func TestFilesAreReadAnew(t *testing.T) {
	dir := t.TempDir()
	ca, err := Init(dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.IssueTo(dir, Request{Name: "a", Hosts: []string{"a"}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := LoadPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	first := p.Certificate().Leaf.SerialNumber
	if err := os.WriteFile(key, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.Reload(); err == nil || p.Certificate().Leaf.SerialNumber.Cmp(first) != 0 {
		t.Errorf("a broken file is used: %v", err)
	}
	if _, _, err := ca.IssueTo(dir, Request{Name: "a", Hosts: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	if err := p.Reload(); err != nil || p.Certificate().Leaf.SerialNumber.Cmp(first) == 0 {
		t.Errorf("the new file is not used: %v", err)
	}
}

func TestEnsureRenewsWhatDoesNotFit(t *testing.T) {
	dir := t.TempDir()
	ca, err := Init(filepath.Join(dir, "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	other, err := Init(filepath.Join(dir, "other"), "test")
	if err != nil {
		t.Fatal(err)
	}
	last := ""
	for _, step := range []struct {
		ca    *CA
		hosts []string
		fresh bool
	}{{ca, []string{"a"}, true}, {ca, []string{"a"}, false}, {ca, []string{"a", "192.0.2.1"}, true}, {ca, []string{"a"}, false}, {other, []string{"a"}, true}} {
		cert, _, err := step.ca.Ensure(filepath.Join(dir, "tls"), Request{Name: "web", Hosts: step.hosts})
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(cert)
		if err != nil || (string(text) != last) != step.fresh {
			t.Errorf("%v: fresh %v, %v", step.hosts, string(text) != last, err)
		}
		last = string(text)
	}
}

func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no authority: %v", err)
	}
	ca, err := Init(dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	for _, req := range []Request{{}, {Name: strings.Repeat("a", 65)}, {Name: "a", Hosts: []string{"a b"}}, {Name: "a", Hosts: []string{""}}, {Name: "../a"}, {Name: ".a"}} {
		if _, _, err := ca.IssueTo(dir, req); err == nil {
			t.Errorf("%+v was accepted", req)
		}
	}
	if _, err := Pool(filepath.Join(dir, caKeyFile)); err == nil {
		t.Error("a key was taken for a certificate")
	}
	if _, err := LoadPair(filepath.Join(dir, "none"), filepath.Join(dir, "none")); err == nil {
		t.Error("no file was taken for a certificate")
	}
}

// An authority follows another one while connections are made: both sides go by the file of now, and a broken file changes nothing.
func TestAuthoritiesAreReadAnew(t *testing.T) {
	dir := t.TempDir()
	issue := func(name string) (ca *CA, server, client *Pair) {
		ca, err := Init(filepath.Join(dir, name), name)
		if err != nil {
			t.Fatal(err)
		}
		pair := func(req Request) *Pair {
			cert, key, err := ca.IssueTo(filepath.Join(dir, name), req)
			if err != nil {
				t.Fatal(err)
			}
			p, err := LoadPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		return ca, pair(Request{Name: "server", Hosts: []string{"127.0.0.1"}}), pair(Request{Name: "client"})
	}
	first, oldServer, oldClient := issue("old")
	second, newServer, newClient := issue("new")
	file := filepath.Join(dir, "authorities.crt")
	write := func(pem []byte) {
		if err := os.WriteFile(file, pem, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(first.CertPEM())
	authorities, err := LoadAuthorities(file)
	if err != nil {
		t.Fatal(err)
	}
	later := func() { // as if checkEvery had passed
		authorities.mu.Lock()
		defer authorities.mu.Unlock()
		authorities.checked = time.Time{}
	}
	servers := map[*Pair]*tls.Config{}
	for _, p := range []*Pair{oldServer, newServer} {
		servers[p] = MutualConfig(p, authorities, tls.RequireAndVerifyClientCert, "h2")
	}
	sessions := tls.NewLRUClientSessionCache(10)
	meets := func(server, client *Pair) bool {
		c := ClientConfig(client, authorities.Pool())
		c.ServerName, c.ClientSessionCache = "127.0.0.1", sessions
		serverErr, clientErr := shake(t, servers[server], c)
		return serverErr == nil && clientErr == nil
	}
	if !meets(oldServer, oldClient) || meets(newServer, newClient) || meets(oldServer, newClient) {
		t.Error("the first authority does not decide")
	}
	write(append(first.CertPEM(), second.CertPEM()...))
	later()
	if !meets(oldServer, oldClient) || !meets(newServer, newClient) || !meets(oldServer, newClient) || !meets(newServer, oldClient) {
		t.Error("two authorities are not taken for two")
	}
	write([]byte("half"))
	later()
	if !meets(oldServer, newClient) || authorities.Reload() == nil {
		t.Error("a broken file is used")
	}
	write(second.CertPEM())
	later()
	if meets(oldServer, oldClient) || meets(newServer, oldClient) || !meets(newServer, newClient) {
		t.Error("an authority that is withdrawn still decides")
	}
}
