package gatewaymodule_test

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func readJSON[T any](t *testing.T, file string) T {
	t.Helper()
	b, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// harmless checks what every answer to bad input must be: below 500, and with nothing in it that a browser would take for a page.
func harmless(t *testing.T, what string, a answer) {
	t.Helper()
	if a.status >= 500 {
		t.Errorf("%.200q: %d %s", what, a.status, a.body)
	}
	if a.status >= 400 && a.header.Get("Api-Version") != "" { // net/http answers what is no HTTP by itself
		if ct := a.header.Get("Content-Type"); ct != "application/problem+json" {
			t.Errorf("%.200q: %d as %s", what, a.status, ct)
		}
	}
	if strings.Contains(a.body, "<script") && !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
		t.Errorf("%.200q comes back as %.300s", what, a.body)
	}
	for name, values := range a.header {
		if strings.EqualFold(name, "X-Injected") || strings.ContainsAny(strings.Join(values, ""), "\r\n\x00") {
			t.Errorf("%.200q sets the header %s: %q", what, name, values)
		}
	}
}

func TestNaughtyStrings(t *testing.T) {
	d := open(t, nil)
	list := readJSON[[]string](t, "naughty-strings.json")
	if len(list) < 200 {
		t.Fatalf("only %d", len(list))
	}
	for _, s := range list {
		body, err := json.Marshal(map[string]any{"id": s, "name": s, "count": 1, "tags": map[string]string{s: s}})
		if err != nil {
			t.Fatal(err)
		}
		harmless(t, s, d.do(t, "GET", "/api/v1/things?name="+url.QueryEscape(s), d.admin, nil))
		harmless(t, s, d.do(t, "GET", "/api/v1/things/"+url.PathEscape(s), d.admin, nil))
		harmless(t, s, d.do(t, "GET", "/"+url.PathEscape(s), "", nil))
		harmless(t, s, d.do(t, "POST", "/api/v1/things", d.admin, strings.NewReader(string(body)), "Content-Type", "application/json"))
	}
}

// ruleSet reads the requests of the OWASP Core Rule Set.
func ruleSet(t *testing.T) []ruleSetRequest {
	t.Helper()
	f, err := os.Open("testdata/crs-requests.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var list []ruleSetRequest
	if err := json.NewDecoder(zr).Decode(&list); err != nil {
		t.Fatal(err)
	}
	if len(list) < 2000 {
		t.Fatalf("only %d", len(list))
	}
	return list
}

type ruleSetRequest struct {
	Title, Method, URI, Data string
	Headers                  map[string]string
	Raw                      []byte // the whole request, instead of the rest
}

func TestRuleSetRequests(t *testing.T) {
	d := open(t, nil)
	for _, r := range ruleSet(t) {
		if r.Raw != nil {
			if a, err := d.send(t, strings.TrimRight(string(r.Raw), "\r\n")+"\r\nConnection: close\r\n\r\n"); err == nil {
				harmless(t, r.Title, a)
			}
			continue
		}
		for _, path := range []string{r.URI, "/api/v1/things" + query(r.URI)} {
			var b strings.Builder
			fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nAuthorization: Bearer %s\r\n", r.Method, path, d.admin)
			for name, value := range r.Headers {
				switch http.CanonicalHeaderKey(name) {
				case "Content-Length", "Transfer-Encoding", "Authorization", "Connection", "Expect":
				default:
					fmt.Fprintf(&b, "%s: %s\r\n", name, value)
				}
			}
			if r.Headers["Host"] == "" {
				b.WriteString("Host: localhost\r\n")
			}
			fmt.Fprintf(&b, "Content-Length: %d\r\nConnection: close\r\n\r\n%s", len(r.Data), r.Data)
			a, err := d.send(t, b.String())
			if err != nil && r.Method != http.MethodHead { // whose answer tells the length of a body that does not follow
				t.Errorf("%s: no answer: %v", r.Title, err)
				continue
			}
			harmless(t, r.Title+" "+path, a)
		}
	}
}

func query(uri string) string {
	if _, q, ok := strings.Cut(uri, "?"); ok {
		return "?" + q
	}
	return ""
}

func TestMalformedRequests(t *testing.T) {
	d := open(t, nil)
	authorization := "Authorization: Bearer " + d.admin + "\r\n"
	for name, c := range map[string]struct {
		line, headers, body string
		status              int
	}{
		"NUL in the path":               {"GET /api/v1/things/%00 HTTP/1.1", "", "", 400},
		"NUL in the query":              {"GET /api/v1/things?name=%00 HTTP/1.1", "", "", 400},
		"NUL in a parameter's name":     {"GET /api/v1/things?na%00me=1 HTTP/1.1", "", "", 400},
		"no UTF-8 in the path":          {"GET /api/v1/things/%ff%fe HTTP/1.1", "", "", 400},
		"no UTF-8 in the query":         {"GET /api/v1/things?name=%ff HTTP/1.1", "", "", 400},
		"raw bytes in the query":        {"GET /api/v1/things?name=\xff\xfe HTTP/1.1", "", "", 400},
		"overlong slash":                {"GET /api/v1/things/%c0%af HTTP/1.1", "", "", 400},
		"a line end in the path":        {"GET /api/v1/things/%0d%0aX-Injected:%201 HTTP/1.1", "", "", 400},
		"a broken escape in the path":   {"GET /api/v1/things/%zz HTTP/1.1", "", "", 400},
		"a broken escape in the query":  {"GET /api/v1/things?name=%zz HTTP/1.1", "", "", 400},
		"a semicolon in the query":      {"GET /api/v1/things?a=1;b=2 HTTP/1.1", "", "", 400},
		"a line end in the query":       {"GET /api/v1/things?name=a%0d%0aX-Injected:%201 HTTP/1.1", "", "", 200},
		"a long URL":                    {"GET /api/v1/things?name=" + strings.Repeat("a", 9000) + " HTTP/1.1", "", "", 400},
		"a long head":                   {"GET /health HTTP/1.1", "X-Long: " + strings.Repeat("a", 128<<10) + "\r\n", "", 431},
		"no UTF-8 in a header":          {"GET /api/v1/things HTTP/1.1", "If-Match: \xff\r\n", "", 400},
		"NUL in a header":               {"GET /api/v1/things HTTP/1.1", "If-Match: a\x00b\r\n", "", 400},
		"a header without a colon":      {"GET /api/v1/things HTTP/1.1", "nonsense\r\n", "", 400},
		"a space before the colon":      {"GET /api/v1/things HTTP/1.1", "X-A : 1\r\n", "", 400},
		"two lengths":                   {"POST /api/v1/things HTTP/1.1", "Content-Length: 2\r\nContent-Length: 3\r\n", "{}", 400},
		"a negative length":             {"POST /api/v1/things HTTP/1.1", "Content-Length: -1\r\n", "", 400},
		"a length that is no number":    {"POST /api/v1/things HTTP/1.1", "Content-Length: 0x10\r\n", "", 400},
		"an unknown transfer encoding":  {"POST /api/v1/things HTTP/1.1", "Transfer-Encoding: gzip\r\n", "", 501},
		"two hosts":                     {"GET /health HTTP/1.1", "Host: evil\r\n", "", 400},
		"an absolute target":            {"GET http://evil/health HTTP/1.1", "", "", 200},
		"a tunnel":                      {"CONNECT evil:443 HTTP/1.1", "", "", 404},
		"the server itself":             {"OPTIONS * HTTP/1.1", "", "", 200},
		"no path":                       {"GET things HTTP/1.1", "", "", 400},
		"another protocol":              {"GET /health FTP/9.9", "", "", 400},
		"no JSON":                       {"POST /api/v1/things HTTP/1.1", "Content-Type: application/json\r\nContent-Length: 5\r\n", `{"a":`, 400},
		"NUL in JSON":                   {"POST /api/v1/things HTTP/1.1", "Content-Type: application/json\r\nContent-Length: 17\r\n", `{"name":"\u0000"}`, 422},
		"a body of 10 MiB":              {"POST /api/v1/things HTTP/1.1", "Content-Type: application/json\r\nContent-Length: 10485760\r\n", `{"name":"` + strings.Repeat("a", 2<<20), 413},
		"another content type":          {"POST /api/v1/things HTTP/1.1", "Content-Type: text/xml\r\nContent-Length: 4\r\n", `<a/>`, 415},
		"a header of the gateway's own": {"GET /api/v1/whoami HTTP/1.1", "X-Novacron-Principal: root\r\n", "", 200},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := d.send(t, c.line+"\r\nHost: localhost\r\nConnection: close\r\n"+authorization+c.headers+"\r\n"+c.body)
			if err != nil {
				t.Fatal(err)
			}
			if a.status != c.status {
				t.Errorf("answered %d %.300s", a.status, a.body)
			}
			if c.status != http.StatusNotImplemented { // net/http's own answer to a transfer encoding that it does not know
				harmless(t, name, a)
			}
		})
	}
}

// Where a request says its length in two ways, what one of them leaves over is never read as a request.
func TestNothingIsSmuggled(t *testing.T) {
	d := open(t, nil)
	for name, raw := range map[string]string{
		"length and chunks": "POST /auth/anyone HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"chunks and length": "POST /auth/anyone HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 50\r\n\r\n0\r\n\r\n",
		"two encodings":     "POST /auth/anyone HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"a list of them":    "POST /auth/anyone HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"a bare line end":   "POST /auth/anyone HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\n\r\n",
		"an older protocol": "POST /auth/anyone HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two lengths":       "POST /auth/anyone HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n",
		"a list of lengths": "POST /auth/anyone HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0, 5\r\n\r\n",
		"a space":           "POST /auth/anyone HTTP/1.1\r\nHost: localhost\r\nContent-Length : 5\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", d.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, raw+"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: smuggled\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(conn) // until it is closed
			if err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Fatal(err)
			}
			if strings.Contains(string(got), "smuggled") {
				t.Errorf("answered what was left over: %s", got)
			}
		})
	}
}
