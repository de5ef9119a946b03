package contextfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestChangesAreKeptAndNoneIsLost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "contexts.json")
	if f, err := Read(path); err != nil || len(f.Contexts) != 0 {
		t.Fatalf("%+v, %v", f, err)
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			err := Update(t.Context(), path, func(f *File) error {
				f.Set(Context{Name: fmt.Sprintf("c%02d", i), Server: "https://example.org/"})
				f.Current = f.Contexts[0].Name
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	f, err := Read(path)
	if err != nil || len(f.Contexts) != 16 || f.Contexts[0].Name != "c00" || f.Current == "" {
		t.Fatalf("%+v, %v", f, err)
	}
	if c, found := f.Find("c07"); !found || c.LoginKey() != "https://example.org#c07" {
		t.Errorf("%+v", c)
	}
	failed := errors.New("no")
	if err := Update(t.Context(), path, func(f *File) error { f.Remove("c07"); return failed }); !errors.Is(err, failed) {
		t.Error(err)
	}
	if f, _ = Read(path); len(f.Contexts) != 16 {
		t.Error("a change that failed was kept")
	}
	if err := Update(t.Context(), path, func(f *File) error {
		f.Set(Context{Name: "c07", Server: "http://other"})
		f.Current = "c08"
		f.Remove("c08")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	f, _ = Read(path)
	if c, _ := f.Find("c07"); len(f.Contexts) != 15 || f.Current != "" || c.Server != "http://other" {
		t.Errorf("%+v", f)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestDamagedFileIsSaid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "contexts.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil {
		t.Error("read")
	}
	if err := Update(t.Context(), path, func(*File) error { return nil }); err == nil {
		t.Error("overwritten")
	}
}
