package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// DefaultFile is read where no other file is named and it exists.
const DefaultFile = "/etc/novacron/novacron.yaml"

// The names of the flags that AddFlags adds.
const (
	flagConfig  = "config"
	flagDataDir = "data-dir"
	flagListen  = "listen"
	flagModules = "modules"
)

// flagKeys are the keys that flags set.
func flagKeys() map[string]string {
	return map[string]string{flagDataDir: "data_dir", flagListen: "http.listen", flagModules: "modules"}
}

// AddFlags adds the flags of the configuration to a command.
func AddFlags(fs *pflag.FlagSet) {
	d := Default()
	fs.String(flagConfig, "", "configuration `FILE` (default "+DefaultFile+" if it exists; NOVACRON_CONFIG)")
	fs.String(flagDataDir, d.DataDir, "`DIR` for everything that NovaCron keeps (NOVACRON_DATA_DIR)")
	fs.String(flagListen, d.HTTP.Listen, "`HOST:PORT` that the API is served on (NOVACRON_HTTP_LISTEN)")
	fs.StringSlice(flagModules, d.Modules, "`LIST` of modules to run, by commas (NOVACRON_MODULES)")
}

// Source says where a value comes from.
type Source string

// The sources, the later override the earlier.
const (
	SourceDefault Source = "default"
	SourceFile    Source = "file"
	SourceEnv     Source = "environment"
	SourceFlag    Source = "flag"
)

// Origin is where one value comes from.
type Origin struct {
	Source Source
	Detail string // file and line, variable or flag; and the file that a secret was read from
}

// Loaded is a configuration and where it comes from.
type Loaded struct {
	Config   Config
	File     string            // that was read; empty: none
	Origins  map[string]Origin // by key
	Warnings []string          // what looks like a mistake but may be meant
}

// Options say where to look.
type Options struct {
	File  string         // overrides the flag, NOVACRON_CONFIG and DefaultFile
	Flags *pflag.FlagSet // that AddFlags was called on; may be nil
}

// Load reads the configuration and checks it. The error tells every mistake at once, each with its key and its origin.
func Load(opts Options) (*Loaded, error) {
	l := &loader{v: viper.New(), fields: fields(), out: &Loaded{Origins: map[string]Origin{}}, lines: map[string]int{}}
	l.registerDefaults()
	if err := l.readFile(opts); err != nil {
		return nil, err
	}
	l.bindEnv()
	if err := l.bindFlags(opts.Flags); err != nil {
		return nil, err
	}
	l.decode()
	if err := l.absoluteDataDir(); err != nil {
		return nil, err
	}
	if len(l.failed) == 0 {
		l.failed = append(l.failed, l.out.Config.check()...)
	}
	if len(l.failed) > 0 {
		return nil, fmt.Errorf("the configuration has %d mistakes:\n%w", len(l.failed), errors.Join(l.failed...))
	}
	return l.out, nil
}

type loader struct {
	v      *viper.Viper
	fields []field
	flags  *pflag.FlagSet
	out    *Loaded
	lines  map[string]int // key → line in the file
	failed []error
}

// registerDefaults tells viper of every key; it looks at the environment for those only that it knows.
func (l *loader) registerDefaults() {
	d := reflect.ValueOf(Default())
	for _, f := range l.fields {
		value := d.FieldByIndex(f.index).Interface()
		if t, ok := value.(time.Duration); ok {
			value = t.String()
		}
		l.v.SetDefault(f.path, value)
		if f.secret {
			l.v.SetDefault(f.path+fileSuffix, "")
		}
	}
}

func (l *loader) readFile(opts Options) error {
	name := opts.File
	if name == "" && opts.Flags != nil {
		name, _ = opts.Flags.GetString(flagConfig) // without the flag there is no name
	}
	if name == "" {
		name = os.Getenv(envPrefix + "_CONFIG")
	}
	if name == "" {
		if _, err := os.Stat(DefaultFile); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		name = DefaultFile
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	l.out.File = name
	values, err := l.parse(raw)
	if err != nil {
		return fmt.Errorf("read configuration %s: %w", name, err)
	}
	if err := l.v.MergeConfigMap(values); err != nil {
		return fmt.Errorf("read configuration %s: %w", name, err)
	}
	return nil
}

func (l *loader) bindEnv() {
	l.v.SetEnvPrefix(envPrefix)
	l.v.SetEnvKeyReplacer(strings.NewReplacer(".", "_"))
	l.v.AutomaticEnv()
	known := map[string]bool{env("config"): true}
	for _, key := range l.keys() {
		known[env(key)] = true
	}
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		// The command line as a client has variables of its own, so an unknown one is no mistake; but it may be a misspelt one.
		if !strings.HasPrefix(name, envPrefix+"_") || known[name] {
			continue
		}
		for k := range known {
			if distance(name, k) <= 2 {
				l.out.Warnings = append(l.out.Warnings, fmt.Sprintf("the environment variable %s is not known; did you mean %s?", name, k))
				break
			}
		}
	}
	slices.Sort(l.out.Warnings)
}

func (l *loader) bindFlags(flags *pflag.FlagSet) error {
	l.flags = flags
	if flags == nil {
		return nil
	}
	for name, key := range flagKeys() {
		if f := flags.Lookup(name); f != nil {
			if err := l.v.BindPFlag(key, f); err != nil {
				return fmt.Errorf("bind flag --%s: %w", name, err)
			}
		}
	}
	return nil
}

// keys lists every key that may be given.
func (l *loader) keys() []string {
	var keys []string
	for _, f := range l.fields {
		keys = append(keys, f.path)
		if f.secret {
			keys = append(keys, f.path+fileSuffix)
		}
	}
	return keys
}

func (l *loader) originOf(key string) Origin {
	if l.flags != nil {
		for name, k := range flagKeys() {
			if f := l.flags.Lookup(name); k == key && f != nil && f.Changed {
				return Origin{SourceFlag, "--" + name}
			}
		}
	}
	if os.Getenv(env(key)) != "" { // viper takes an empty variable for none
		return Origin{SourceEnv, env(key)}
	}
	if line, ok := l.lines[key]; ok {
		return Origin{SourceFile, fmt.Sprintf("%s:%d", l.out.File, line)}
	}
	return Origin{Source: SourceDefault}
}

// decode turns viper's values into Config, one by one, so that every mistake is found.
func (l *loader) decode() {
	target := reflect.ValueOf(&l.out.Config).Elem()
	for _, f := range l.fields {
		origin := l.originOf(f.path)
		value := target.FieldByIndex(f.index)
		fail := func(err error) {
			where := string(origin.Source)
			if origin.Detail != "" {
				where = origin.Detail
			}
			l.failed = append(l.failed, fmt.Errorf("%s: %w (%s)", f.path, err, where))
		}
		if err := convert(l.v.Get(f.path), value, origin.Source); err != nil {
			fail(err)
			continue
		}
		if f.secret {
			if err := l.secretFromFile(f, value, &origin); err != nil {
				fail(err)
				continue
			}
		}
		l.out.Origins[f.path] = origin
		if err := f.check(value); err != nil {
			fail(err)
		}
	}
}

// absoluteDataDir takes a relative folder from where the command was given. In a file it would mean another one with every start, so there
// it stays as it is and is refused.
func (l *loader) absoluteDataDir() error {
	dir := &l.out.Config.DataDir
	if source := l.out.Origins["data_dir"].Source; *dir == "" || (source != SourceEnv && source != SourceFlag) {
		return nil
	}
	abs, err := filepath.Abs(*dir)
	if err != nil {
		return fmt.Errorf("data_dir: find the current folder: %w", err)
	}
	*dir = abs
	return nil
}

// secretFromFile takes a secret from the file that key_file names.
func (l *loader) secretFromFile(f field, value reflect.Value, origin *Origin) error {
	key := f.path + fileSuffix
	var name string
	from := l.originOf(key)
	if err := convert(l.v.Get(key), reflect.ValueOf(&name).Elem(), from.Source); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if name == "" {
		return nil
	}
	if value.String() != "" {
		return fmt.Errorf("is given together with %s; give one of them", key)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read secret: %w", err)
	}
	text := strings.TrimSpace(string(raw))
	if text == "" {
		return fmt.Errorf("%s is empty", name)
	}
	value.SetString(text)
	*origin = Origin{from.Source, strings.TrimSpace(from.Detail + " → " + name)}
	return nil
}
