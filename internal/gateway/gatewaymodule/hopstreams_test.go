package gatewaymodule_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"github.com/novacron/novacron/internal/gateway/gatewaymodule"
)

// spoken is a module that notes in which version of HTTP each path was asked for last.
type spoken struct {
	*things
	protos sync.Map
}

func (s *spoken) Handler() http.Handler {
	next := s.things.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.protos.Store(r.URL.Path, r.Proto)
		if r.Header.Get("X-Hold") != "" {
			s.entered <- struct{}{}
			<-s.release
		}
		next.ServeHTTP(w, r)
	})
}

// Events, websockets and uploads go both ways of the hop in either version of HTTP; websockets stay with the older one.
func TestStreamsPassThrough(t *testing.T) {
	for http2, usual := range map[string]string{"": "HTTP/1.1", "off": "HTTP/1.1", "auto": "HTTP/2.0"} {
		t.Run(http2, func(t *testing.T) {
			module := &spoken{things: newThings()}
			streamsPass(t, module, http2)
			for path, want := range map[string]string{"/api/v1/things": usual, "/api/v1/events": usual, "/api/v1/upload": usual, "/api/v1/socket": "HTTP/1.1"} {
				if got, _ := module.protos.Load(path); got != want {
					t.Errorf("%s was asked for over %v, want %s", path, got, want)
				}
			}
		})
	}
}

func streamsPass(t *testing.T, module *spoken, http2 string) {
	t.Helper()
	a := newAuthority(t)
	server := a.elsewhere(t, module, "127.0.0.1:0")
	defer stopServer(t, server)
	d := through(t, a, gatewaymodule.Service{Name: "things", URLs: []string{"https://" + server.Addr().String()}, HTTP2: http2})
	d.reached(t)

	// An event is there before the stream ends.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", d.url+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil || line != "data: hello\n" {
		t.Errorf("event %q: %v", line, err)
	}
	resp.Body.Close()

	// A websocket goes both ways of the hop and ends with the client.
	c, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(d.url, "http")+"/api/v1/socket", nil)
	if err != nil {
		t.Fatal(err)
	}
	<-module.entered
	c.CloseNow()

	// One that the module does not read for now holds up no other.
	held := make(chan answer, 1)
	go func() {
		held <- d.do(t, "PUT", "/api/v1/upload", "", strings.NewReader(strings.Repeat("x", 2<<20)), "X-Hold", "1")
	}()
	<-module.entered

	// An upload reaches the module while the client still sends: nobody holds it whole.
	pr, pw := io.Pipe()
	up, err := http.NewRequestWithContext(ctx, "PUT", d.url+"/api/v1/upload", pr)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan string, 1)
	go func() {
		resp, err := http.DefaultClient.Do(up)
		if err != nil {
			done <- err.Error()
			return
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		done <- string(text)
	}()
	chunk := make([]byte, 1<<20)
	for range 64 {
		if _, err := pw.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	pw.Close()
	if text := strings.TrimSpace(<-done); text != fmt.Sprint(64<<20) {
		t.Errorf("the module read %s", text)
	}

	close(module.release)
	if a := <-held; strings.TrimSpace(a.body) != fmt.Sprint(2<<20) {
		t.Errorf("of the upload that waited the module read %d %s", a.status, a.body)
	}

	// One that dies within its answer leaves none that looks whole.
	late, err := http.Get(d.url + "/api/v1/panic-late")
	if err != nil {
		return
	}
	defer late.Body.Close()
	if _, err := io.ReadAll(late.Body); err == nil && late.StatusCode == http.StatusOK {
		t.Error("half an answer came as a whole one")
	}
}
