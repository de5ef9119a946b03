package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

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
	Sources map[string]string // by key: default, or file, environment or flag with the place behind it
}

// Load reads the configuration. flags may be nil, or those that AddFlags added to. The error lists every mistake there is, each with its key
// and where it stands.
func Load(flags *pflag.FlagSet) (Loaded, error) {
	l := loader{v: viper.New(), flags: flags, loaded: Loaded{Config: Default(), Sources: map[string]string{}}, lines: map[string]int{}}
	l.keys = keysIn(reflect.ValueOf(&l.loaded.Config).Elem())
	l.v.SetEnvPrefix(EnvPrefix)
	l.v.SetEnvKeyReplacer(strings.NewReplacer(".", "_"))
	for _, k := range l.keys {
		value := k.value.Interface()
		if d, ok := value.(time.Duration); ok {
			value = d.String()
		}
		l.v.SetDefault(k.path, value)
		if err := l.v.BindEnv(k.path); err != nil {
			return l.loaded, fmt.Errorf("bind environment of %s: %w", k.path, err)
		}
	}
	for name, path := range flagKeys {
		if f := l.flag(name); f != nil {
			if err := l.v.BindPFlag(path, f); err != nil {
				return l.loaded, fmt.Errorf("bind flag --%s: %w", name, err)
			}
		}
	}
	if err := l.readFile(); err != nil {
		return l.loaded, err
	}
	l.decode()
	l.failed = append(l.failed, unknownEnv(l.keys)...)
	l.failed = append(l.failed, l.loaded.resolve()...)
	return l.loaded, errors.Join(l.failed...)
}

type loader struct {
	v      *viper.Viper
	flags  *pflag.FlagSet
	keys   []key // settable ones of loaded.Config
	loaded Loaded
	lines  map[string]int // of the keys that the file has
	failed []error
}

// flag gives a flag that was set, or nil.
func (l *loader) flag(name string) *pflag.Flag {
	if l.flags == nil {
		return nil
	}
	if f := l.flags.Lookup(name); f != nil && f.Changed {
		return f
	}
	return nil
}

func (l *loader) readFile() error {
	file, explicit := DefaultFile, false
	if env := os.Getenv(EnvPrefix + "_CONFIG"); env != "" {
		file, explicit = env, true
	}
	if f := l.flag("config"); f != nil {
		file, explicit = f.Value.String(), true
	}
	raw, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) && !explicit {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	l.loaded.File = file
	values, err := l.parse(raw)
	if err == nil {
		err = l.v.MergeConfigMap(values)
	}
	if err != nil {
		return fmt.Errorf("read configuration %s: %w", file, err)
	}
	return nil
}

// decode takes viper's values over one by one, so that every mistake is found. A setting that cannot be read keeps its default, so that the
// checks which follow do not complain of it again.
func (l *loader) decode() {
	for _, k := range l.keys {
		kind, place := l.source(k)
		l.loaded.Sources[k.path] = strings.TrimSpace(kind + " " + place)
		if err := convert(l.v.Get(k.path), k.value, kind != fromFile); err != nil {
			l.failed = append(l.failed, fmt.Errorf("%s: %w (%s)", k.path, err, l.loaded.Sources[k.path]))
		}
	}
}

// The kinds of source.
const (
	fromDefault = "default"
	fromFile    = "file"
	fromEnv     = "environment"
	fromFlag    = "flag"
)

func (l *loader) source(k key) (kind, place string) {
	for name, path := range flagKeys {
		if path == k.path && l.flag(name) != nil {
			return fromFlag, "--" + name
		}
	}
	if os.Getenv(k.env()) != "" { // viper takes an empty variable for none
		return fromEnv, k.env()
	}
	if line, ok := l.lines[k.path]; ok {
		return fromFile, fmt.Sprintf("%s:%d", l.loaded.File, line)
	}
	return fromDefault, ""
}

// mistakesOf takes a joined error apart, one mistake each.
func mistakesOf(err error) []error {
	var list []error
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, errors.New(line))
		}
	}
	return list
}

// unknownEnv finds variables of our prefix that nothing reads and that are meant for us: misspelt settings, and unknown ones of a section. Other
// programs may have variables of the prefix too.
func unknownEnv(keys []key) []error {
	known, sections := map[string]bool{EnvPrefix + "_CONFIG": true}, map[string]bool{}
	for _, k := range keys {
		known[k.env()] = true
		if section, _, nested := strings.Cut(k.path, "."); nested {
			sections[strings.ToUpper(section)] = true
		}
	}
	for _, client := range []string{"SERVER", "USERNAME", "PASSWORD", "PASSWORD_FILE", "OUTPUT"} { // of the command line client
		known[EnvPrefix+"_"+client] = true
	}
	var failed []error
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, EnvPrefix+"_") || known[name] {
			continue
		}
		meant := suggest(name, slices.Collect(maps.Keys(known)))
		if meant != "" || sections[strings.SplitN(name, "_", 3)[1]] {
			failed = append(failed, fmt.Errorf("environment: %s is not a setting%s", name, meant))
		}
	}
	slices.SortFunc(failed, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return failed
}
