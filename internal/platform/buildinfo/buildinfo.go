// Package buildinfo tells which program this is: what the linker was told, or else what the Go toolchain wrote down by itself.
package buildinfo

import "runtime/debug"

// Set by the Makefile with -ldflags "-X …".
var version, commit, date string

// Info says which program this is.
type Info struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Date    string `json:"date"` // of the commit, RFC 3339
	Go      string `json:"go"`
}

// Get gives it.
func Get() Info {
	info := Info{Version: version, Commit: commit, Date: date}
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return info
	}
	info.Go = build.GoVersion
	for _, s := range build.Settings {
		switch {
		case s.Key == "vcs.revision" && info.Commit == "":
			info.Commit = s.Value
		case s.Key == "vcs.time" && info.Date == "":
			info.Date = s.Value
		}
	}
	if info.Version == "" {
		info.Version = "dev"
	}
	return info
}
