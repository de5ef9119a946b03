package vmmodule

import (
	"context"
	"net/http"
	"net/http/httptest"
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
