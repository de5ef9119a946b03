package logx

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestKeysOfSecretsAreKnownHoweverTheyAreWritten(t *testing.T) {
	long := strings.Repeat("x_", 40)
	known := newVerdicts()
	for range 2 { // the second time they are remembered
		for key, want := range map[string]bool{
			"password": true, "Pass-Word": true, "X.API.KEY": true, "api_key_id": false, "path": false, "": false, "user_data": true,
			long + "token": true, long + "token_file": false, long: false, "ä_Secret": true, "ä": false,
		} {
			if got := known.secret(key); got != want {
				t.Errorf("%q: %t", key, got)
			}
		}
	}
	for i := range 2 * maxVerdicts {
		if key := "token" + strconv.Itoa(i); !known.secret(key) {
			t.Errorf("%s is not known for a secret", key)
		}
	}
	if n := len(*known.known.Load()); n > maxVerdicts {
		t.Errorf("%d keys are remembered", n)
	}
}

func TestSchemesAreFoundInAnyCase(t *testing.T) {
	for text, want := range map[string]bool{
		"authorization: Bearer x": true, "BEARER": true, "bEaReR": true, "xBasicx": true, "BASIC": true, "b": false, "beare": false, "basi": false,
		"0193bb1e-bea4-7bab-8ba5-1cbasb": false, "": false, "bebearer": true, "babasic": true,
	} {
		if got := namesScheme(text); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
}

// An access log line, which is written for every request, takes no room for being looked at.
func TestOrdinaryLinesTakeNoRoom(t *testing.T) {
	c := &cleaner{Handler: slog.DiscardHandler, keys: newVerdicts()}
	r := slog.NewRecord(time.Now(), slog.LevelInfo, "request", 0)
	r.AddAttrs(slog.String("request_id", "0193bb1e-bea4-7bab-8ba5-1c2d3e4f5a6b"), slog.String("path", "/api/v1/vms"), slog.Int("status", 200),
		slog.Duration("duration", time.Millisecond), slog.String("user_agent", "Mozilla/5.0 (X11; Linux x86_64) BasilBrowser"))
	if n := testing.AllocsPerRun(100, func() { _ = c.Handle(context.Background(), r) }); n != 0 {
		t.Errorf("an ordinary line takes room %v times", n)
	}
}
