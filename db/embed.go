// Package db carries the SQL that travels in the binary: db/<module>/migrations/*.sql, run by goose.
package db

import (
	"embed"
	"fmt"
	"io/fs"
)

// The pattern takes the whole folder, a few kilobytes more than the migrations, because a pattern that matches nothing does not
// compile, and which modules have migrations is up to them.
//
//go:embed *
var files embed.FS

// Migrations gives the goose files of one module, in the root of the answer.
func Migrations(module string) (fs.FS, error) {
	dir := module + "/migrations"
	if fi, err := fs.Stat(files, dir); err != nil || !fi.IsDir() {
		return nil, fmt.Errorf("module %q has no migrations", module)
	}
	return fs.Sub(files, dir)
}
