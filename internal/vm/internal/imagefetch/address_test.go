package imagefetch

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/novacron/novacron/internal/vm"
)

// Every way to say "this host", "the network behind it" or "the cloud's metadata" is refused, and what is public is not.
func TestAddresses(t *testing.T) {
	r := Rules{Hosts: []string{"*"}, Networks: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}}
	for _, address := range []string{
		"127.0.0.1:80", "127.1.2.3:443", "0.0.0.0:80", "10.0.0.1:80", "172.31.0.1:80", "192.168.1.1:443", "169.254.169.254:80", "100.100.100.200:80",
		"168.63.129.16:80", "192.0.0.192:80", "198.18.0.1:80", "224.0.0.1:80", "255.255.255.255:80", "240.0.0.1:80",
		"[::1]:80", "[::]:80", "[fe80::1%eth0]:80", "[fc00::1]:443", "[fd00:ec2::254]:80", "[::ffff:127.0.0.1]:80", "[::ffff:169.254.169.254]:80",
		"[64:ff9b::7f00:1]:80", "[2002:7f00:1::]:80", "[2001::1]:80", "[2001:db8::1]:80", "[ff02::1]:80", "[::127.0.0.1]:80",
		"93.184.216.34:22", "93.184.216.34:6379", "10.10.0.1:80",
	} {
		if err := r.control(t.Context(), "tcp4", address, nil); !errors.Is(err, vm.ErrImageURL) {
			t.Errorf("%s is connected to: %v", address, err)
		}
	}
	for _, address := range []string{"93.184.216.34:443", "93.184.216.34:80", "[2606:2800:220:1:248:1893:25c8:1946]:443", "10.9.1.2:8080", "[::ffff:10.9.1.2]:8080"} {
		if err := r.control(t.Context(), "tcp6", address, nil); err != nil {
			t.Errorf("%s is refused: %v", address, err)
		}
	}
	if err := r.control(t.Context(), "udp4", "93.184.216.34:443", nil); err == nil {
		t.Error("UDP is let through")
	}
}

func TestURLs(t *testing.T) {
	r := Rules{Hosts: []string{"images.example.org", "*.Mirror.example", "127.0.0.1"}}
	for _, text := range []string{
		"", "images.example.org/x", "ftp://images.example.org/x", "file:///etc/shadow", "https:///x", "https://evil.org/images.example.org",
		"https://images.example.org.evil.org/", "https://mirror.example/", "https://user@images.example.org/", "https://images.example.org@evil.org/",
		"https://evilmirror.example/", "http://127.0.0.1/", "http://[::1]/", "https://images.example.org/" + strings.Repeat("x", 5000), "http:images.example.org", "https://%zz/",
	} {
		if _, err := r.Check(text); !errors.Is(err, vm.ErrImageURL) {
			t.Errorf("%q is accepted: %v", text, err)
		}
	}
	for _, text := range []string{"https://images.example.org/x", "HTTPS://IMAGES.EXAMPLE.ORG./x", "http://cloud.mirror.example/x#part"} {
		if u, err := r.Check(text); err != nil || u.Fragment != "" {
			t.Errorf("%q is refused: %v", text, err)
		}
	}
	if _, err := (Rules{}).Check("https://images.example.org/x"); err == nil {
		t.Error("without hosts something is fetched")
	}
}

// A name that leads to the host itself is found out when the connection is made.
func TestNameOfTheHostItself(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the host itself was reached") }))
	defer server.Close()
	f := New(Rules{Hosts: []string{"*"}, MaxBytes: 1 << 20})
	file, err := os.Create(filepath.Join(t.TempDir(), "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	url := strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	err = f.Fetch(t.Context(), url, file, Mark{}, func(Mark) error { return nil }, func(_, _ int64) {})
	if !errors.Is(err, vm.ErrImageURL) {
		t.Errorf("got %v", err)
	}
}

// A file that has changed meanwhile, and one whose server cannot prove that it is the same, are fetched anew.
func TestBeginsAnew(t *testing.T) {
	for name, etag := range map[string]string{"changed": `"new"`, "unknown": "", "weak": `W/"old"`} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if etag != "" {
					w.Header().Set("ETag", etag)
				}
				_, _ = w.Write([]byte("the new file"))
			}))
			defer server.Close()
			path := filepath.Join(t.TempDir(), "x")
			if err := os.WriteFile(path, []byte("what was there of the old file, which was longer"), 0o600); err != nil {
				t.Fatal(err)
			}
			file, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			f := New(Rules{Hosts: []string{"127.0.0.1"}, Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, MaxBytes: 1 << 20})
			var kept Mark
			if err := f.Fetch(t.Context(), server.URL, file, Mark{ETag: `"old"`}, func(m Mark) error { kept = m; return nil }, func(_, _ int64) {}); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, []byte("the new file")) {
				t.Errorf("got %q: %v", got, err)
			}
			if strong := name == "changed"; (kept.ETag != "") != strong {
				t.Errorf("kept %q", kept.ETag)
			}
		})
	}
}
