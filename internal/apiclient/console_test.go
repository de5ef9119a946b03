package apiclient_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/apiclient"
)

func TestConsole(t *testing.T) {
	id := uuid.New()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/vms/{id}/console", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") != id.String() {
			t.Errorf("console of %s", r.PathValue("id"))
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"ticket":"t","kind":"serial","url":"/api/v1/vms/%s/console/ws?ticket=t","expires_at":"2026-01-02T03:04:05Z"}`, id)
	})
	mux.HandleFunc("GET /api/v1/vms/{id}/console/ws", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("ticket") != "t" {
			t.Errorf("opened with %s", r.URL)
		}
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		kind, data, err := conn.Read(r.Context())
		if err != nil || kind != websocket.MessageBinary {
			t.Errorf("%v, %v", kind, err)
		}
		_ = conn.Write(r.Context(), websocket.MessageBinary, []byte("you typed "+string(data)))
		_ = conn.Close(websocket.StatusNormalClosure, "the machine was powered off")
	})
	c, _ := serve(t, mux)
	console, err := c.OpenConsole(t.Context(), id, apiclient.ConsoleOpen{})
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	if err := console.Write(t.Context(), []byte("x\x00\xff")); err != nil {
		t.Fatal(err)
	}
	if got, err := console.Read(t.Context()); err != nil || string(got) != "you typed x\x00\xff" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := console.Read(t.Context()); !errors.Is(err, apiclient.ErrConsoleClosed) || !strings.Contains(err.Error(), "powered off") {
		t.Errorf("got %v", err)
	}
}

func TestConsoleKeepsTheTokenAtHome(t *testing.T) {
	c, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"url":"https://elsewhere.example/ws"}`) }))
	_, err := c.OpenConsole(t.Context(), uuid.New(), apiclient.ConsoleOpen{})
	if err == nil || !strings.Contains(err.Error(), "elsewhere.example") {
		t.Errorf("got %v", err)
	}
}

func TestConsoleLog(t *testing.T) {
	c, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("offset") != "-5" {
			t.Errorf("asked for %s", r.URL)
		}
		w.Header().Set("X-Console-Offset", "7")
		w.Header().Set("X-Console-Size", "12")
		fmt.Fprint(w, "ready")
	}))
	chunk, err := c.ConsoleLog(t.Context(), uuid.New(), -5)
	if err != nil || string(chunk.Data) != "ready" || chunk.Offset != 7 || chunk.Size != 12 || chunk.Next() != 12 {
		t.Errorf("%+v, %v", chunk, err)
	}
}
