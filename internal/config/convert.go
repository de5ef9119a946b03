package config

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// convert sets target to what viper found. A file must have the right type; the environment and flags have only texts, which is what
// fromText says.
func convert(raw any, target reflect.Value, fromText bool) error {
	if isList(target.Type()) {
		return convertList(raw, target, fromText)
	}
	text, isText := raw.(string)
	fromText = fromText && isText
	switch target.Interface().(type) {
	case time.Duration:
		if !isText {
			return fmt.Errorf("%v lacks a unit; write it as 30s, 15m or 720h", raw)
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is not a duration; write it as 30s, 15m or 720h", text)
		}
		target.SetInt(int64(d))
	case []string:
		list, err := texts(raw)
		if err != nil {
			return err
		}
		target.Set(reflect.ValueOf(list))
	case string:
		if !isText {
			return fmt.Errorf("%v is not a text; put it in quotes", raw)
		}
		target.SetString(text)
	case int, int32, int64:
		n, err := integer(raw, text, fromText)
		if err != nil {
			return err
		}
		if target.OverflowInt(n) {
			return fmt.Errorf("%d is too large", n)
		}
		target.SetInt(n)
	case bool:
		b, err := truth(raw, text, fromText)
		if err != nil {
			return err
		}
		target.SetBool(b)
	case float64:
		x, err := number(raw, text, fromText)
		if err != nil {
			return err
		}
		target.SetFloat(x)
	default:
		return fmt.Errorf("has the type %s, which the configuration cannot hold", target.Type())
	}
	return nil
}

func texts(raw any) ([]string, error) {
	switch v := raw.(type) {
	case string: // one, or several by commas
		list := strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })
		return list, nil
	case []string:
		return slices.Clone(v), nil
	case []any:
		list := make([]string, 0, len(v))
		for _, item := range v {
			s, ok := item.(string)
			if !ok {
				return nil, fmt.Errorf("%v in the list is not a text", item)
			}
			list = append(list, s)
		}
		return list, nil
	default:
		return nil, fmt.Errorf("%v is not a list", raw)
	}
}

func integer(raw any, text string, fromText bool) (int64, error) {
	switch v := raw.(type) {
	case int:
		return int64(v), nil
	case int32:
		return int64(v), nil
	case int64:
		return v, nil
	case string:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && fromText {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%v is not an integer", raw)
}

func truth(raw any, text string, fromText bool) (bool, error) {
	if b, ok := raw.(bool); ok {
		return b, nil
	}
	if b, err := strconv.ParseBool(text); err == nil && fromText {
		return b, nil
	}
	return false, fmt.Errorf("%v is neither true nor false", raw)
}

func number(raw any, text string, fromText bool) (float64, error) {
	switch v := raw.(type) {
	case float64:
		return v, nil // the module refuses NaN and infinity, which YAML has
	case int:
		return float64(v), nil
	case string:
		if x, err := strconv.ParseFloat(text, 64); err == nil && fromText && !math.IsInf(x, 0) {
			return x, nil
		}
	}
	return 0, fmt.Errorf("%v is not a number", raw)
}
