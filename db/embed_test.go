package db_test

import (
	"io/fs"
	"os"
	"regexp"
	"testing"

	"github.com/novacron/novacron/db"
)

func TestUnknownModule(t *testing.T) {
	for _, name := range []string{"nothing", "", "..", "embed.go"} {
		if _, err := db.Migrations(name); err == nil {
			t.Errorf("%q has migrations", name)
		}
	}
}

// Every module's folder is embedded whole, with names that goose takes, in a form that sorts.
func TestMigrationsAreEmbedded(t *testing.T) {
	modules, err := fs.Glob(os.DirFS("."), "*/migrations")
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile(`^\d{5}_[a-z0-9_]+\.sql$`)
	for _, dir := range modules {
		module := dir[:len(dir)-len("/migrations")]
		on, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		files, err := db.Migrations(module)
		if err != nil {
			t.Error(err)
			continue
		}
		in, err := fs.ReadDir(files, ".")
		if err != nil || len(in) != len(on) {
			t.Errorf("%s: %d files of %d are embedded, %v", module, len(in), len(on), err)
		}
		for _, f := range in {
			if !form.MatchString(f.Name()) {
				t.Errorf("%s: %s is not named like 00001_words.sql", module, f.Name())
			}
		}
	}
}
