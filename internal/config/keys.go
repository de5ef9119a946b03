package config

import (
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// key is one setting.
type key struct {
	path   string // "http.listen"
	doc    string
	secret bool
	value  reflect.Value
}

func (k key) env() string {
	return EnvPrefix + "_" + strings.ToUpper(strings.ReplaceAll(k.path, ".", "_"))
}

// keysOf lists the settings of a configuration in the order of the struct.
func keysOf(c Config) []key {
	var list []key
	var walk func(prefix string, v reflect.Value)
	walk = func(prefix string, v reflect.Value) {
		for i := range v.NumField() {
			f := v.Type().Field(i)
			path := prefix + f.Tag.Get("mapstructure")
			if f.Type.Kind() == reflect.Struct {
				walk(path+".", v.Field(i))
				continue
			}
			list = append(list, key{path: path, doc: f.Tag.Get("doc"), secret: f.Tag.Get("secret") == "true", value: v.Field(i)})
		}
	}
	walk("", reflect.ValueOf(c))
	return list
}

// sources tells where each setting came from.
func sources(v *viper.Viper, keys []key, flags *pflag.FlagSet) map[string]string {
	from := map[string]string{}
	for _, k := range keys {
		from[k.path] = "default"
		if v.InConfig(k.path) {
			from[k.path] = "file"
		}
		if _, set := os.LookupEnv(k.env()); set {
			from[k.path] = "environment"
		}
	}
	for name, path := range flagKeys {
		if flags == nil {
			continue
		}
		if f := flags.Lookup(name); f != nil && f.Changed {
			from[path] = "flag"
		}
	}
	return from
}

// text gives a setting's value as it would stand in the YAML file.
func (k key) text() string {
	if k.secret && k.value.String() != "" {
		return `"(hidden)"`
	}
	switch v := k.value.Interface().(type) {
	case time.Duration:
		return shortDuration(v)
	case []string:
		return "[" + strings.Join(v, ", ") + "]"
	case string:
		return `"` + v + `"`
	default:
		return strings.TrimSpace(reflectText(k.value))
	}
}

// shortDuration leaves out the zero minutes and seconds that Duration.String adds.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
