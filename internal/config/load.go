package config

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// EnvPrefix begins the name of every environment variable: http.listen is NOVACRON_HTTP_LISTEN.
const EnvPrefix = "NOVACRON"

// DefaultFile is read where no file is named, if it is there.
const DefaultFile = "/etc/novacron/novacron.yaml"

// flagKeys are the settings that have a flag.
var flagKeys = map[string]string{"data-dir": "data_dir", "listen": "http.listen", "modules": "modules"}

// AddFlags adds --config and the flags of the few common settings.
func AddFlags(flags *pflag.FlagSet) {
	d := Default()
	flags.String("config", "", "configuration file (default "+DefaultFile+", if it is there)")
	flags.String("data-dir", d.DataDir, "folder of everything NovaCron keeps")
	flags.String("listen", d.HTTP.Listen, "HOST:PORT of the API")
	flags.StringSlice("modules", d.Modules, "modules that run in this process")
}

// Loaded is a configuration and where it came from.
type Loaded struct {
	Config
	File    string            // that was read; empty: none
	Sources map[string]string // by key: default, file, env or flag
}

// Load reads the configuration. flags may be nil, or those that AddFlags added to. The error lists every mistake there is.
func Load(flags *pflag.FlagSet) (Loaded, error) {
	v := viper.New()
	v.SetEnvPrefix(EnvPrefix)
	v.SetEnvKeyReplacer(strings.NewReplacer(".", "_"))
	keys := keysOf(Default())
	for _, k := range keys {
		v.SetDefault(k.path, k.value.Interface())
		if err := v.BindEnv(k.path); err != nil {
			return Loaded{}, fmt.Errorf("bind environment of %s: %w", k.path, err)
		}
	}
	loaded := Loaded{}
	file, explicit := DefaultFile, false
	if flags != nil {
		for name, key := range flagKeys {
			if f := flags.Lookup(name); f != nil && f.Changed {
				if err := v.BindPFlag(key, f); err != nil {
					return Loaded{}, fmt.Errorf("bind flag --%s: %w", name, err)
				}
			}
		}
		if f := flags.Lookup("config"); f != nil && f.Changed {
			file, explicit = f.Value.String(), true
		}
	}
	if env := os.Getenv(EnvPrefix + "_CONFIG"); env != "" && !explicit {
		file, explicit = env, true
	}
	if _, err := os.Stat(file); err == nil || explicit {
		v.SetConfigFile(file)
		v.SetConfigType("yaml")
		if err := v.ReadInConfig(); err != nil {
			return Loaded{}, fmt.Errorf("read configuration %s: %w", file, err)
		}
		loaded.File = file
	}
	var failed []error
	hook := mapstructure.ComposeDecodeHookFunc(mapstructure.StringToTimeDurationHookFunc(), splitList)
	err := v.UnmarshalExact(&loaded.Config, viper.DecodeHook(hook))
	if err != nil {
		failed = append(failed, mistakesOf(err)...)
	}
	loaded.Sources = sources(v, keys, flags)
	failed = append(failed, unknownEnv(keys)...)
	if err == nil {
		failed = append(failed, loaded.Config.resolve()...)
	}
	return loaded, errors.Join(failed...)
}

// splitList lets a list be given as one text with commas, as in environment variables.
func splitList(from, to reflect.Type, data any) (any, error) {
	if from.Kind() != reflect.String || to != reflect.TypeFor[[]string]() {
		return data, nil
	}
	list := []string{}
	for part := range strings.SplitSeq(data.(string), ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list, nil
}

// mistakesOf takes the decoder's error apart, one mistake each.
func mistakesOf(err error) []error {
	var list []error
	for line := range strings.SplitSeq(err.Error(), "\n") {
		line = strings.TrimPrefix(strings.TrimSpace(line), "* ")
		if line != "" && !strings.HasPrefix(line, "decoding failed due to the following error(s)") {
			list = append(list, errors.New(strings.TrimPrefix(line, "'' ")))
		}
	}
	return list
}

// unknownEnv finds variables of our prefix that nothing reads, most likely misspelt.
func unknownEnv(keys []key) []error {
	known := map[string]bool{EnvPrefix + "_CONFIG": true}
	for _, k := range keys {
		known[k.env()] = true
	}
	for _, client := range []string{"SERVER", "USERNAME", "PASSWORD", "PASSWORD_FILE", "OUTPUT"} { // of the command line client
		known[EnvPrefix+"_"+client] = true
	}
	var failed []error
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, EnvPrefix+"_") && !strings.HasPrefix(name, EnvPrefix+"_TEST_") && !known[name] {
			failed = append(failed, fmt.Errorf("environment: %s is not a setting", name))
		}
	}
	slices.SortFunc(failed, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return failed
}

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
	for _, m := range c.Modules {
		if !slices.Contains(moduleNames, m) {
			bad("modules", "%q is no module; there are %s", m, strings.Join(moduleNames, ", "))
		}
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		bad("log.level", "%q is none of debug, info, warn, error", c.Log.Level)
	}
	if !slices.Contains([]string{"json", "text", "auto"}, c.Log.Format) {
		bad("log.format", "%q is none of json, text, auto", c.Log.Format)
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
