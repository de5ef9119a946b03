package gatewaymodule_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/novacron/novacron/internal/gateway/gatewaymodule"
)

func nopLog() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// TestStopEndsStreamsAndFinishesRequests has an event stream, a websocket and a slow request open when the gateway stops.
func TestStopEndsStreamsAndFinishesRequests(t *testing.T) {
	d := open(t, func(cfg *gatewaymodule.Config, _ *gatewaymodule.Deps) { cfg.DrainGrace = patience })
	ctx := within(t)
	events, err := http.Get(d.url + "/api/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer events.Body.Close()
	reader := bufio.NewReader(events.Body)
	if line, err := reader.ReadString('\n'); err != nil || line != "data: hello\n" {
		t.Fatalf("%q %v", line, err)
	}
	socket, _, err := websocket.Dial(ctx, strings.Replace(d.url, "http", "ws", 1)+"/api/v1/socket", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.CloseNow()
	<-d.things.entered
	if text := d.do(t, "GET", "/metrics", "", nil).body; !strings.Contains(text, `type="websocket"} 1`) || !strings.Contains(text, `type="stream"} 1`) {
		t.Errorf("streams are not counted:\n%s", text)
	}
	slow := make(chan string, 1)
	go func() {
		resp, err := http.Get(d.url + "/api/v1/slow")
		if err != nil {
			slow <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		slow <- string(b)
	}()
	<-d.things.entered

	stopped := make(chan error, 1)
	go func() { stopped <- d.Stop(ctx) }()
	if rest, err := io.ReadAll(reader); err != nil || !strings.Contains(string(rest), "goodbye") {
		t.Errorf("the stream ended with %q, %v", rest, err)
	}
	_, _, err = socket.Read(ctx)
	if websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("the websocket ended with %v", err)
	}
	if d.Ready(ctx) == nil {
		t.Error("ready while draining")
	}
	if conn, err := net.Dial("tcp", strings.TrimPrefix(d.url, "http://")); err == nil {
		conn.Close()
		t.Error("still listens")
	}
	select {
	case err := <-stopped:
		t.Errorf("stopped before the slow request was answered: %v", err)
	default:
	}
	close(d.things.release)
	if got := <-slow; got != "done" {
		t.Errorf("the slow request got %q", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if err := d.Stop(ctx); err != nil {
		t.Errorf("stopped twice: %v", err)
	}
}

func TestGraceEndsSlowRequests(t *testing.T) {
	d := open(t, func(cfg *gatewaymodule.Config, _ *gatewaymodule.Deps) { cfg.DrainGrace = 50 * time.Millisecond })
	got := make(chan int, 1)
	go func() {
		resp, err := http.Get(d.url + "/api/v1/slow")
		if err != nil {
			got <- 0
			return
		}
		resp.Body.Close()
		got <- resp.StatusCode
	}()
	<-d.things.entered
	if err := d.Stop(within(t)); err != nil {
		t.Error(err)
	}
	if status := <-got; status != 503 {
		t.Errorf("answered %d", status)
	}
}

func TestStopDeadlineCutsWhatIsLeft(t *testing.T) {
	d := open(t, func(cfg *gatewaymodule.Config, _ *gatewaymodule.Deps) { cfg.DrainGrace = time.Hour })
	got := make(chan error, 1)
	go func() {
		resp, err := http.Get(d.url + "/api/v1/slow")
		if err == nil {
			resp.Body.Close()
		}
		got <- err
	}()
	<-d.things.entered
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := d.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	<-got
}

func TestReadySaysDrainingBeforeTheListenerCloses(t *testing.T) {
	d := open(t, func(cfg *gatewaymodule.Config, _ *gatewaymodule.Deps) { cfg.DrainDelay = time.Hour })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- d.Stop(ctx) }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		a := d.do(t, "GET", "/ready", "", nil)
		if a.status == 503 && strings.Contains(a.body, `"draining"`) {
			break
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("still answers %d %s", a.status, a.body)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	cancel() // ends the delay; what follows has nothing to wait for
	if err := <-stopped; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestStartAfterStop(t *testing.T) {
	d := open(t, nil)
	if err := d.Stop(within(t)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	resp, err := http.Get("http://" + d.Addr().String() + "/health")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || d.Ready(t.Context()) != nil {
		t.Errorf("answered %d, ready: %v", resp.StatusCode, d.Ready(t.Context()))
	}
}

// TestSlowClients: one that never finishes its head, one whose body stops, and one that takes no answer all lose their connections.
func TestSlowClients(t *testing.T) {
	d := open(t, func(cfg *gatewaymodule.Config, _ *gatewaymodule.Deps) {
		cfg.ReadHeaderTimeout, cfg.ReadStall, cfg.WriteStall = 200*time.Millisecond, 200*time.Millisecond, 200*time.Millisecond
	})
	t.Run("answer", func(t *testing.T) {
		conn, err := net.Dial("tcp", d.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /api/v1/flood HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		select {
		case <-d.things.entered:
		case <-time.After(patience):
			t.Error("the handler still waits for the client")
		}
	})
	for name, head := range map[string]string{
		"head": "GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: a",
		"body": "PUT /api/v1/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nsome",
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
			if _, err := io.WriteString(conn, head); err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(conn) // until the server closes
			if err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("not closed: %v", err)
			}
			if name == "body" && !strings.Contains(string(answer), "400 Bad Request") {
				t.Errorf("answered %q", answer)
			}
		})
	}
}

// TestReadDeadlineDoesNotOutliveTheBody: a handler that bounds the reading of its body may work on for longer than that.
func TestReadDeadlineDoesNotOutliveTheBody(t *testing.T) {
	d := open(t, nil)
	for name, body := range map[string]io.Reader{"with a body": strings.NewReader("some"), "without": nil} {
		if a := d.do(t, "POST", "/api/v1/deadline", "", body); a.status != 200 || a.body != "done" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}

func TestUploadLimit(t *testing.T) {
	d := open(t, func(cfg *gatewaymodule.Config, _ *gatewaymodule.Deps) { cfg.MaxUploadBytes = 1 << 20 })
	if a := d.do(t, "PUT", "/api/v1/upload", "", strings.NewReader(strings.Repeat("x", 1<<20))); a.status != 200 || a.body != "1048576\n" {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if p := d.do(t, "PUT", "/api/v1/upload", "", strings.NewReader(strings.Repeat("x", 1<<20+1))).problem(t); p.Status != 413 {
		t.Errorf("got %+v", p)
	}
}
