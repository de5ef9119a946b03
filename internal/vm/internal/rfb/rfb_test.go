package rfb_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/novacron/novacron/internal/vm/internal/rfb"
)

// watched gives what is passed on when text comes in pieces of a size.
func watched(text string, piece int) (string, error) {
	var out bytes.Buffer
	w := rfb.Watch(&out)
	for rest := []byte(text); len(rest) > 0; {
		n := min(piece, len(rest))
		if _, err := w.Write(rest[:n]); err != nil {
			return out.String(), err
		}
		rest = rest[n:]
	}
	return out.String(), nil
}

func TestWatcherPassesOnWhatOnlyLooks(t *testing.T) {
	var in, want strings.Builder
	say := func(keep bool, text string) {
		in.WriteString(text)
		if keep {
			want.WriteString(text)
		}
	}
	say(true, "RFB 003.008\n")
	say(true, "\x01") // no security
	say(true, "\x01") // shared
	say(true, "\x00\x00\x00\x00"+strings.Repeat("f", 16))
	say(true, "\x02\x00\x00\x02\x00\x00\x00\x00\xff\xff\xff\x21")
	say(false, "\x04\x01\x00\x00\x00\x00\xff\x0d") // a key
	say(true, "\x03\x01\x00\x00\x00\x00\x02\x80\x01\xe0")
	say(false, "\x05\x01\x00\x10\x00\x10") // the pointer
	say(false, "\x06\x00\x00\x00\x00\x00\x00\x05paste")
	say(false, "\x06\x00\x00\x00\xff\xff\xff\xfc\x00\x00\x00\x01") // the extended clipboard
	say(false, "\xff\x00\x00\x01\x00\x00\x00\x61\x00\x00\x00\x1e") // QEMU's key
	say(true, "\xff\x01\x00\x00")
	say(true, "\xff\x01\x00\x02\x03\x02\x00\x00\xac\x44")
	say(true, "\x96\x01\x00\x00\x00\x00\x02\x80\x01\xe0")
	say(true, "\xf8\x00\x00\x00\x80\x00\x00\x01\x03abc")
	say(false, "\xfa\x00\x01\x02") // power off
	say(false, "\xfb\x00\x03\x20\x02\x58\x01\x00"+strings.Repeat("s", 16))
	say(true, "\x03\x00\x00\x00\x00\x00\x00\x01\x00\x01")
	for _, piece := range []int{1, 2, 3, 7, 64, 4096} {
		got, err := watched(in.String(), piece)
		if err != nil || got != want.String() {
			t.Errorf("in pieces of %d: %v\npassed on %q\nwanted    %q", piece, err, got, want.String())
		}
	}
	// Version 3.3 has no choice of security.
	if got, err := watched("RFB 003.003\n\x01\x04\x01\x00\x00\x00\x00\xff\x0d", 5); err != nil || got != "RFB 003.003\n\x01" {
		t.Errorf("passed on %q, %v", got, err)
	}
}

func TestWatcherRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, text := range []string{"\x07", "\xff\x09", "\x01"} {
		if _, err := watched("RFB 003.008\n\x01\x01"+text, 1); !errors.Is(err, rfb.ErrUnknown) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzWatcher: however the pieces are cut, the same is passed on, and never a key.
func FuzzWatcher(f *testing.F) {
	f.Add([]byte("\x04\x01\x00\x00\x00\x00\xff\x0d\x03\x01\x00\x00\x00\x00\x02\x80\x01\xe0"), 3)
	f.Add([]byte("\x06\x00\x00\x00\x80\x00\x00\x00"), 1)
	f.Fuzz(func(t *testing.T, text []byte, piece int) {
		const hello = "RFB 003.008\n\x01\x01"
		if piece < 1 || piece > 1<<20 {
			return
		}
		whole, wholeErr := watched(hello+string(text), 1<<20)
		parts, err := watched(hello+string(text), piece)
		if parts != whole || (err == nil) != (wholeErr == nil) {
			t.Errorf("in pieces of %d %q, %v; whole %q, %v", piece, parts, err, whole, wholeErr)
		}
	})
}
