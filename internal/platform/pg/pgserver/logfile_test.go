package pgserver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRotate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "postgresql.log")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	content := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return string(b)
	}
	write := func(s string) {
		if _, err := f.WriteString(s); err != nil {
			t.Fatal(err)
		}
		if err := rotate(f, 10); err != nil {
			t.Fatal(err)
		}
	}
	write("small")
	if got, old := content(path), content(path+".1"); got != "small" || old != "" {
		t.Errorf("small log: %q, before it %q", got, old)
	}
	write(strings.Repeat("x", 20) + "the end..")
	if got, old := content(path), content(path+".1"); got != "" || old != "xthe end.." {
		t.Errorf("large log: %q, before it %q", got, old)
	}
	write("new")
	if got := content(path); got != "new" {
		t.Errorf("after that: %q", got)
	}
}
