package logx

import (
	"log/slog"
	"strings"
	"testing"
)

// The fast way of looking at a key and the thorough one agree.
func TestKeysOfSecretsAreKnownHoweverTheyAreWritten(t *testing.T) {
	long := strings.Repeat("x_", 40)
	for key, want := range map[string]bool{
		"password": true, "Pass-Word": true, "X.API.KEY": true, "api_key_id": false, "path": false, "": false, "user_data": true,
		long + "token": true, long + "token_file": false, long: false, "ä_Secret": true, "ä": false,
	} {
		if got := secretKey(key); got != want {
			t.Errorf("%q: %t", key, got)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _ = redact(nil, slog.String("request_id", "0193")) }); n != 0 {
		t.Errorf("an ordinary attribute takes room %v times", n)
	}
}
