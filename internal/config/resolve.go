package config

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// moduleNames in the order of the documentation.
var moduleNames = []string{"auth", "vm", "federation", "monitoring", "scheduler", "gateway"}

// resolve reads the files of secrets, fills in what follows from the host, and lists every mistake.
func (c *Config) resolve() []error {
	var failed []error
	bad := func(path, format string, args ...any) {
		failed = append(failed, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
	}
	fromFile := func(path string, value *string, file string) {
		switch {
		case file == "":
		case *value != "":
			bad(path, "is given here and in %s_file; give one", path)
		default:
			content, err := os.ReadFile(file)
			if err != nil {
				bad(path+"_file", "%v", err)
				return
			}
			*value = strings.TrimSpace(string(content))
		}
	}
	fromFile("database.url", &c.Database.URL, c.Database.URLFile)
	fromFile("redis.url", &c.Redis.URL, c.Redis.URLFile)
	fromFile("mail.password", &c.Mail.Password, c.Mail.PasswordFile)
	if c.Database.URL != "" {
		if u, err := url.Parse(c.Database.URL); err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
			bad("database.url", "is not a postgres:// URL")
		}
	}
	if c.Database.MaxConns < 2 || c.Database.MaxConns > 1000 {
		bad("database.max_conns", "must be from 2 to 1000")
	}
	if dir, err := filepath.Abs(c.DataDir); err != nil || c.DataDir == "" {
		bad("data_dir", "must name a folder")
	} else {
		c.DataDir = dir
	}
	if len(c.Modules) == 0 {
		bad("modules", "must be 'all' or name at least one module")
	}
	if len(c.Modules) == 1 && c.Modules[0] == "all" {
		c.Modules = slices.Clone(moduleNames)
	}
	for i, m := range c.Modules {
		switch {
		case !slices.Contains(moduleNames, m):
			bad("modules", "%q is no module; there are %s", m, strings.Join(moduleNames, ", "))
		case slices.Index(c.Modules, m) < i:
			bad("modules", "%s is named twice", m)
		}
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		bad("log.level", "%q is none of debug, info, warn, error", c.Log.Level)
	}
	if !slices.Contains([]string{"json", "text", "auto"}, c.Log.Format) {
		bad("log.format", "%q is none of json, text, auto", c.Log.Format)
	}
	if c.Log.Hold < 0 || c.Log.Hold > time.Second {
		bad("log.hold", "%v is not from 0 to 1s", c.Log.Hold)
	}
	if c.Runtime.GCRoomBytes < 0 || c.Runtime.GCRoomBytes > 1<<40 {
		bad("runtime.gc_room_bytes", "%d is not from 0 to 1 TiB", c.Runtime.GCRoomBytes)
	}
	if t := &c.HTTP.TLS; t.Auto {
		if t.CertFile != "" || t.KeyFile != "" {
			bad("http.tls.auto", "makes the certificate itself; leave cert_file and key_file out")
		}
		t.CertFile, t.KeyFile = filepath.Join(c.DataDir, "tls", "gateway.crt"), filepath.Join(c.DataDir, "tls", "gateway.key")
	}
	if c.Node.Name == "" {
		name, err := os.Hostname()
		if err != nil {
			bad("node.name", "cannot be taken from the host: %v", err)
		}
		c.Node.Name = name
	}
	return append(failed, c.moduleMistakes()...)
}
