package vmmodule

import (
	"bytes"
	"context"
	"encoding/binary"
	"image/png"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// screenOf opens a screen by websocket and shakes hands as a viewer does (RFC 6143, section 7). It gives the size of the screen.
func (w *world) screenOf(ctx context.Context, server *httptest.Server, id uuid.UUID, readOnly bool) (conn net.Conn, width, height int) {
	w.t.Helper()
	ticket := decode[struct{ URL, Kind string }](w.t, w.do(http.MethodPost, w.vmPath(id)+"/console", map[string]any{"kind": "vnc", "read_only": readOnly}), http.StatusCreated)
	c, resp, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(server.URL, "http")+ticket.URL, &websocket.DialOptions{Subprotocols: []string{"binary"}})
	if err != nil {
		w.t.Fatalf("connect: %v %v", resp, err)
	}
	if c.Subprotocol() != "binary" || ticket.Kind != "vnc" {
		w.t.Errorf("protocol %q, kind %q", c.Subprotocol(), ticket.Kind)
	}
	conn = websocket.NetConn(ctx, c, websocket.MessageBinary)
	w.t.Cleanup(func() { _ = conn.Close() })
	read := func(n int) []byte {
		w.t.Helper()
		b := make([]byte, n)
		if _, err := io.ReadFull(conn, b); err != nil {
			w.t.Fatalf("read: %v", err)
		}
		return b
	}
	write := func(text string) {
		w.t.Helper()
		if _, err := conn.Write([]byte(text)); err != nil {
			w.t.Fatalf("write: %v", err)
		}
	}
	if hello := string(read(12)); hello != "RFB 003.008\n" {
		w.t.Fatalf("the server says %q", hello)
	}
	write("RFB 003.008\n")
	if kinds := read(int(read(1)[0])); !bytes.Contains(kinds, []byte{1}) {
		w.t.Fatalf("security %v", kinds)
	}
	write("\x01")
	if result := binary.BigEndian.Uint32(read(4)); result != 0 {
		w.t.Fatalf("refused with %d", result)
	}
	write("\x01")
	head := read(24)
	read(int(binary.BigEndian.Uint32(head[20:])))
	write("\x00\x00\x00\x00\x20\x18\x00\x01\x00\xff\x00\xff\x00\xff\x10\x08\x00\x00\x00\x00") // 32 bits a pixel
	write("\x02\x00\x00\x01\x00\x00\x00\x00")                                                 // raw
	return conn, int(binary.BigEndian.Uint16(head)), int(binary.BigEndian.Uint16(head[2:]))
}

// pixels asks for the whole screen and gives the pixels of the first rectangle that comes.
func pixels(t *testing.T, conn net.Conn, width, height int) []byte {
	t.Helper()
	ask := []byte{3, 0, 0, 0, 0, 0}
	ask = binary.BigEndian.AppendUint16(ask, uint16(width))
	ask = binary.BigEndian.AppendUint16(ask, uint16(height))
	if _, err := conn.Write(ask); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 16)
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Fatal(err)
	}
	if head[0] != 0 || binary.BigEndian.Uint32(head[12:]) != 0 {
		t.Fatalf("the server sent %v", head)
	}
	b := make([]byte, 4*int(binary.BigEndian.Uint16(head[8:]))*int(binary.BigEndian.Uint16(head[10:])))
	if _, err := io.ReadFull(conn, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// consoleSessions counts the records of sessions that were closed, with what is known of them then.
func (w *world) consoleSessions(id uuid.UUID, readOnly string) (n int) {
	w.t.Helper()
	row := w.vm.controller.pool.QueryRow(w.t.Context(), `SELECT count(*) FROM outbox WHERE subject = 'audit.records' AND payload->>'action' = 'vm-console.session' AND payload->>'result' = 'success'
		AND payload->>'target_id' = $1 AND payload->>'user_id' = $2 AND payload->'details'->>'read_only' = $3 AND payload->'details'->>'kind' = 'vnc'
		AND (payload->'details'->>'from_guest_bytes')::bigint > 0 AND payload->'details'->>'open_for_ms' IS NOT NULL`, id.String(), w.tenant.UserID.String(), readOnly)
	if err := row.Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func TestScreens(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.image().ID).TargetID
	server := httptest.NewServer(w.vm.Handler())
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const key = "\x04\x01\x00\x00\x00\x00\xff\x0d"
	watcher, width, height := w.screenOf(ctx, server, id, true)
	typist, _, _ := w.screenOf(ctx, server, id, false)
	for _, conn := range []net.Conn{watcher, typist} {
		if _, err := conn.Write([]byte(key)); err != nil {
			t.Fatal(err)
		}
		if got := pixels(t, conn, width, height); len(got) != 4*width*height || !bytes.Equal(got[:3], []byte{0x60, 0x40, 0x20}) {
			t.Errorf("%d bytes of pixels for %dx%d, the first %v", len(got), width, height, got[:3])
		}
		_ = conn.Close()
	}
	if n := w.driver.Keys(id); n != 1 {
		t.Errorf("%d keys reached the guest, of one who may type and one who may not", n)
	}
	picture, err := png.Decode(w.do(http.MethodGet, w.vmPath(id)+"/console/screenshot", nil).Body)
	if err != nil || picture.Bounds().Dx() != width || picture.Bounds().Dy() != height {
		t.Errorf("the picture is %v, %v", picture, err)
	}

	// As many as share a console, once those above have left.
	var open []net.Conn
	w.eventually("the viewers have left", func() bool { return w.consolesOpen() == 0 })
	w.eventually("both sessions are in the audit trail", func() bool { return w.consoleSessions(id, "true") == 1 && w.consoleSessions(id, "false") == 1 })
	for range 8 {
		conn, _, _ := w.screenOf(ctx, server, id, true)
		open = append(open, conn)
	}
	ticket := decode[struct{ URL string }](t, w.do(http.MethodPost, w.vmPath(id)+"/console", map[string]any{"kind": "vnc"}), http.StatusCreated)
	if _, resp, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(server.URL, "http")+ticket.URL, nil); err == nil || resp == nil || resp.StatusCode != http.StatusConflict {
		t.Errorf("the ninth viewer got %v, %v", resp, err)
	}
	if n := w.consolesOpen(); n != 8 {
		t.Errorf("%d consoles are counted", n)
	}
	for _, conn := range open {
		_ = conn.Close()
	}
	w.driver.WithoutScreen(id)
	w.refused(http.MethodGet, w.vmPath(id)+"/console/screenshot", nil, http.StatusConflict, "vm.no_screen")
	w.act(id, "stop", map[string]any{"force": true})
	w.refused(http.MethodGet, w.vmPath(id)+"/console/screenshot", nil, http.StatusConflict, "vm.wrong_state")
	w.refused(http.MethodPost, w.vmPath(id)+"/console", map[string]any{"kind": "vnc"}, http.StatusConflict, "vm.wrong_state")
	w.refused(http.MethodPost, w.vmPath(id)+"/console", map[string]any{"kind": "spice"}, http.StatusUnprocessableEntity, "request.invalid")
}

// consolesOpen is how many screens the metrics count.
func (w *world) consolesOpen() int {
	w.t.Helper()
	return int(testutil.ToFloat64(w.vm.controller.consoles.open.WithLabelValues("vnc")))
}

// Who watches a serial console types nothing.
func TestWatchersTypeNothing(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.image().ID).TargetID
	server := httptest.NewServer(w.vm.Handler())
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var both [2]*websocket.Conn
	for i, readOnly := range []bool{true, false} {
		ticket := decode[struct{ URL string }](t, w.do(http.MethodPost, w.vmPath(id)+"/console", map[string]any{"read_only": readOnly}), http.StatusCreated)
		c, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(server.URL, "http")+ticket.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseNow()
		both[i] = c
	}
	for i, text := range []string{"nothing", "this"} {
		if err := both[i].Write(ctx, websocket.MessageBinary, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range both {
		if _, data, err := c.Read(ctx); err != nil || !strings.HasPrefix("this", string(data)) {
			t.Errorf("the guest echoes %q, %v", data, err)
		}
	}
}

// TestRealScreen: a real guest shows pixels by VNC through the websocket, and in a picture; its server listens on no port.
func TestRealScreen(t *testing.T) {
	w, h := realWorld(t)
	id := w.succeeds(http.MethodPost, "/api/v1/vms", createRequest("screen", w.demoImage().ID)).TargetID
	server := httptest.NewServer(w.vm.Handler())
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	colours := func(pixels []byte) int {
		seen := map[[3]byte]bool{}
		for i := 0; i+3 < len(pixels); i += 4 {
			seen[[3]byte(pixels[i:i+3])] = true
		}
		return len(seen)
	}
	conn, width, height := w.screenOf(ctx, server, id, false)
	w.eventually("firmware or guest have written something on the screen", func() bool { return colours(pixels(t, conn, width, height)) > 1 })
	rec := w.do(http.MethodGet, w.vmPath(id)+"/console/screenshot", nil)
	picture, err := png.Decode(rec.Body)
	if err != nil || rec.Header().Get("Content-Type") != "image/png" || picture.Bounds().Dx() < 320 {
		t.Fatalf("the picture is %v, %v: %d %v", picture, err, rec.Code, rec.Header())
	}
	if out := h.Virsh(t, "domdisplay", "nova-"+id.String()); !strings.Contains(out, "vnc+unix:") && !strings.Contains(out, ".sock") {
		t.Errorf("virsh says that the display is at %s", out)
	}
	w.succeeds(http.MethodDelete, w.vmPath(id), nil)
	if _, err := io.Copy(io.Discard, conn); err != nil && ctx.Err() != nil {
		t.Error("the viewer of a guest that is gone still waits")
	}
}
