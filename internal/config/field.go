package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// field is one leaf of Config.
type field struct {
	path     string // "http.listen"
	index    []int  // for reflect.Value.FieldByIndex
	typ      reflect.Type
	doc      string
	enum     []string
	min, max string
	secret   bool
}

const (
	envPrefix  = "NOVACRON"
	fileSuffix = "_file"
)

// env gives the environment variable of a key.
func env(path string) string {
	return envPrefix + "_" + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// fields lists the leaves of Config in order.
func fields() []field {
	var list []field
	var walk func(t reflect.Type, prefix string, index []int)
	walk = func(t reflect.Type, prefix string, index []int) {
		for i := range t.NumField() {
			f := t.Field(i)
			at := append(slices.Clone(index), i)
			path := prefix + f.Tag.Get("key")
			if f.Type.Kind() == reflect.Struct {
				walk(f.Type, path+".", at)
				continue
			}
			leaf := field{path: path, index: at, typ: f.Type, doc: f.Tag.Get("doc"), min: f.Tag.Get("min"), max: f.Tag.Get("max"),
				secret: f.Tag.Get("secret") == "true"}
			if e := f.Tag.Get("enum"); e != "" {
				leaf.enum = strings.Split(e, ",")
			}
			list = append(list, leaf)
		}
	}
	walk(reflect.TypeFor[Config](), "", nil)
	return list
}

// check compares a value with the bounds of its field.
func (f field) check(v reflect.Value) error {
	switch value := v.Interface().(type) {
	case []string:
		for _, item := range value {
			if err := f.oneOf(item); err != nil {
				return err
			}
		}
	case string:
		return f.oneOf(value)
	case time.Duration:
		return bounds(f, value, time.ParseDuration)
	case int:
		return bounds(f, value, strconv.Atoi)
	case int64:
		return bounds(f, value, func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) })
	case float64:
		if value != value { // NaN passes every comparison
			return fmt.Errorf("is not a number")
		}
		return bounds(f, value, func(s string) (float64, error) { return strconv.ParseFloat(s, 64) })
	}
	return nil
}

func (f field) oneOf(value string) error {
	if len(f.enum) > 0 && !slices.Contains(f.enum, value) {
		return fmt.Errorf("%q is none of %s", value, strings.Join(f.enum, ", "))
	}
	return nil
}

func bounds[T int | int64 | float64 | time.Duration](f field, value T, parse func(string) (T, error)) error {
	for _, b := range []struct {
		text   string
		broken func(T) bool
		words  string
	}{
		{f.min, func(limit T) bool { return value < limit }, "must be at least"},
		{f.max, func(limit T) bool { return value > limit }, "must be at most"},
	} {
		if b.text == "" {
			continue
		}
		limit, err := parse(b.text)
		if err != nil {
			return fmt.Errorf("has a bound %q that cannot be read: %w", b.text, err)
		}
		if b.broken(limit) {
			return fmt.Errorf("%v %s %s", value, b.words, b.text)
		}
	}
	return nil
}

// typeName is what the reference calls the type of a field.
func (f field) typeName() string {
	switch f.typ {
	case reflect.TypeFor[time.Duration]():
		return "duration"
	case reflect.TypeFor[[]string]():
		return "list"
	case reflect.TypeFor[float64]():
		return "number"
	case reflect.TypeFor[int](), reflect.TypeFor[int64]():
		return "integer"
	default:
		return "text"
	}
}

// show gives a value as it is written in YAML.
func show(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case time.Duration:
		return shortDuration(value)
	case []string:
		return "[" + strings.Join(value, ", ") + "]"
	case string:
		return quote(value)
	default:
		return fmt.Sprint(value)
	}
}

// shortDuration drops the zeros that Duration.String adds: 10m instead of 10m0s.
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

// quote writes a text so that YAML reads a text again.
func quote(s string) string {
	plain := s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-") == "" && (s[0] > '9' || s[0] == '/')
	if plain && !slices.Contains([]string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"}, strings.ToLower(s)) {
		return s
	}
	return strconv.Quote(s)
}
