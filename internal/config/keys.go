package config

import (
	"reflect"
	"strconv"
	"strings"
	"time"
)

// key is one setting.
type key struct {
	path   string // "http.listen"
	doc    string
	secret bool
	off    bool // a number that may be the word off, which stands for -1
	value  reflect.Value
}

// off is what takes back what would hold otherwise.
const off = "off"

func (k key) env() string {
	return EnvPrefix + "_" + strings.ToUpper(strings.ReplaceAll(k.path, ".", "_"))
}

// keysOf lists the settings of a configuration in the order of the struct.
func keysOf(c Config) []key { return keysIn(reflect.ValueOf(c)) }

// keysIn does so for a Config whose fields may be settable.
func keysIn(c reflect.Value) []key {
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
			doc := f.Tag.Get("doc")
			if isList(f.Type) {
				doc += " " + listDoc(f.Type)
			}
			list = append(list, key{path: path, doc: doc, secret: f.Tag.Get("secret") == "true", off: f.Tag.Get("off") == "true", value: v.Field(i)})
		}
	}
	walk("", c)
	return list
}

// Differences lists the settings in which two configurations differ.
func Differences(a, b Config) []string {
	var paths []string
	other := keysOf(b)
	for i, k := range keysOf(a) {
		if !reflect.DeepEqual(k.value.Interface(), other[i].value.Interface()) {
			paths = append(paths, k.path)
		}
	}
	return paths
}

// text gives a setting's value as it would stand in the YAML file.
func (k key) text() string {
	if k.secret && k.value.String() != "" {
		return `"(hidden)"`
	}
	if k.off && k.value.Int() == -1 {
		return off
	}
	if isList(k.value.Type()) {
		return listText(k.value)
	}
	switch v := k.value.Interface().(type) {
	case time.Duration:
		return shortDuration(v)
	case []string:
		texts := make([]string, len(v))
		for i, s := range v {
			texts[i] = plainOrQuoted(s)
		}
		return "[" + strings.Join(texts, ", ") + "]"
	case string:
		return strconv.Quote(v)
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

// plainOrQuoted writes an item of a list, in quotes where YAML would read something else into it.
func plainOrQuoted(s string) string {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', i > 0 && (c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'):
		default:
			return strconv.Quote(s)
		}
	}
	if s == "" {
		return strconv.Quote(s)
	}
	return s
}
