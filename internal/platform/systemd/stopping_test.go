package systemd

import (
	"os"
	"path/filepath"
	"testing"
)

func TestStopping(t *testing.T) {
	for answer, want := range map[string]bool{"stopping": true, "running": false, "degraded": false, "": false} {
		dir := t.TempDir()
		script := "#!/bin/sh\necho " + answer + "\n[ \"$1\" = is-system-running ] && [ " + `"` + answer + `" = running ]` + "\n"
		if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(script), 0o700); err != nil { //nolint:gosec // it is run
			t.Fatal(err)
		}
		t.Setenv("PATH", dir+":/usr/bin:/bin")
		if got := HostStopping(t.Context()); got != want {
			t.Errorf("%q: %t", answer, got)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if HostStopping(t.Context()) {
		t.Error("a host without systemd shuts down")
	}
}
