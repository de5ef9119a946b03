package vmmodule

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// Two viewers of one serial console see the same, whoever types.
func TestViewersOfAConsoleSeeTheSame(t *testing.T) {
	w := newWorld(t)
	made := w.create("web-1", w.image().ID)
	server := httptest.NewServer(w.vm.Handler())
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	open := func() *websocket.Conn {
		t.Helper()
		ticket := decode[struct{ URL string }](t, w.do(http.MethodPost, "/api/v1/vms/"+made.TargetID.String()+"/console", nil), http.StatusCreated)
		c, resp, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(server.URL, "http")+ticket.URL, nil)
		if err != nil {
			t.Fatalf("connect: %v %v", resp, err)
		}
		return c
	}
	sees := func(c *websocket.Conn, want string) {
		t.Helper()
		got := ""
		for len(got) < len(want) {
			_, data, err := c.Read(ctx)
			if err != nil {
				t.Fatalf("after %q: %v", got, err)
			}
			got += string(data)
		}
		if got != want {
			t.Fatalf("saw %q, not %q", got, want)
		}
	}
	types := func(c *websocket.Conn, text string) {
		t.Helper()
		if err := c.Write(ctx, websocket.MessageBinary, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	first := open()
	defer first.CloseNow()
	types(first, "one ") // the guest echoes
	sees(first, "one ")
	second := open()
	defer second.CloseNow()
	sees(second, "one ")
	types(second, "two ")
	sees(first, "two ")
	sees(second, "two ")
	if err := first.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Fatal(err)
	}
	types(second, "three")
	sees(second, "three")
}

// Who comes when nobody watches sees what a guest that is idle wrote last, and no more of it than 16 KiB.
func TestFirstViewerSeesWhatWasWritten(t *testing.T) {
	w := newWorld(t)
	made := w.create("web-1", w.image().ID)
	server := httptest.NewServer(w.vm.Handler())
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const most = 16 << 10
	said := strings.Repeat("an old line\r\n", most/8) + "web-1 login: "
	log := filepath.Join(w.dir, "node", "disks", made.TargetID.String(), "console.log") // which QEMU writes
	if err := os.WriteFile(log, []byte(said), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		ticket := decode[struct{ URL string }](t, w.do(http.MethodPost, "/api/v1/vms/"+made.TargetID.String()+"/console", nil), http.StatusCreated)
		c, resp, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(server.URL, "http")+ticket.URL, nil)
		if err != nil {
			t.Fatalf("connect: %v %v", resp, err)
		}
		got := ""
		for len(got) < most {
			_, data, err := c.Read(ctx)
			if err != nil {
				t.Fatalf("after %d bytes: %v", len(got), err)
			}
			got += string(data)
		}
		if got != said[len(said)-most:] {
			t.Errorf("saw %d bytes that end in %q", len(got), got[len(got)-20:])
		}
		if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Fatal(err)
		}
		w.eventually("the console is closed", func() bool { return w.consolesOpen() == 0 })
	}
}
