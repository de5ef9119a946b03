package node

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"
)

// guestEnd is the console as the guest has it, and the other end as the hypervisor gives it.
func guestEnd(t *testing.T) (guest net.Conn, open func() (io.ReadWriteCloser, []byte, error)) {
	t.Helper()
	guest, host := net.Pipe()
	t.Cleanup(func() { _ = guest.Close() })
	_ = guest.SetDeadline(time.Now().Add(time.Minute))
	return guest, func() (io.ReadWriteCloser, []byte, error) { return host, nil, nil }
}

func look(t *testing.T, s *sharedConsoles, vm uuid.UUID, open func() (io.ReadWriteCloser, []byte, error)) (end net.Conn, gone <-chan struct{}) {
	t.Helper()
	c, leave, err := s.join(t.Context(), vm, open)
	if err != nil {
		t.Fatal(err)
	}
	end, conn := net.Pipe()
	_ = end.SetDeadline(time.Now().Add(time.Minute))
	done := make(chan struct{})
	go func() { // ends with the connection
		defer close(done)
		c.serve(t.Context(), conn, leave)
	}()
	return end, done
}

func expect(t *testing.T, from io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(from, got); err != nil || string(got) != want {
		t.Fatalf("got %q, %v, not %q", got, err, want)
	}
}

func say(t *testing.T, to io.Writer, text []byte) {
	t.Helper()
	if _, err := to.Write(text); err != nil {
		t.Fatal(err)
	}
}

func TestViewersShareAConsole(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	var s sharedConsoles
	vm := uuid.New()
	guest, open := guestEnd(t)
	first, firstGone := look(t, &s, vm, open)
	say(t, guest, []byte("booting\n"))
	expect(t, first, "booting\n")
	second, secondGone := look(t, &s, vm, func() (io.ReadWriteCloser, []byte, error) { return nil, nil, errors.New("opened twice") })
	expect(t, second, "booting\n") // what was said before it came
	say(t, guest, []byte("login: "))
	expect(t, first, "login: ")
	expect(t, second, "login: ")
	for _, viewer := range []net.Conn{first, second} {
		say(t, viewer, []byte("key"))
		expect(t, guest, "key")
	}
	_ = first.Close()
	<-firstGone
	say(t, guest, []byte("on"))
	expect(t, second, "on")
	_ = second.Close()
	<-secondGone
	if _, err := guest.Write([]byte("x")); err == nil {
		t.Error("the console is open without viewers")
	}
	if len(s.open) != 0 {
		t.Error("a closed console is kept")
	}
}

func TestSlowViewerIsDropped(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	var s sharedConsoles
	vm := uuid.New()
	guest, open := guestEnd(t)
	slow, slowGone := look(t, &s, vm, open)
	quick, quickGone := look(t, &s, vm, open)
	defer slow.Close()
	piece := bytes.Repeat([]byte("x"), consolePiece)
	for dropped, pieces := false, 0; !dropped; pieces++ {
		if pieces > 10*viewerLag {
			t.Fatal("a viewer that reads nothing is kept")
		}
		say(t, guest, piece)
		expect(t, quick, string(piece))
		select {
		case <-slowGone:
			dropped = true
		default:
		}
	}
	say(t, guest, []byte("on"))
	expect(t, quick, "on")
	_ = guest.Close()
	<-quickGone
	if _, err := quick.Read(make([]byte, 1)); err == nil {
		t.Error("a viewer outlives the guest")
	}
	_ = quick.Close()
}

func TestViewersAreLimited(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	var s sharedConsoles
	vm := uuid.New()
	if _, _, err := s.join(t.Context(), vm, func() (io.ReadWriteCloser, []byte, error) { return nil, nil, io.ErrUnexpectedEOF }); !errors.Is(err, io.ErrUnexpectedEOF) || len(s.open) != 0 {
		t.Fatalf("a console that does not open: %v, %d kept", err, len(s.open))
	}
	_, open := guestEnd(t)
	var leaves []func()
	for range maxViewers {
		_, leave, err := s.join(t.Context(), vm, open)
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, leave)
	}
	if _, _, err := s.join(t.Context(), vm, open); !errors.Is(err, errTooManyViewers) {
		t.Errorf("one viewer too many: %v", err)
	}
	for _, leave := range leaves {
		leave()
	}
}
