package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// parseSize reads "512M", "1G", "1GiB" or a bare number of unit bytes, and gives it in units. Letters mean powers of 1024, as memory and
// disks are counted here. What is no whole number of units is refused.
func parseSize(text string, unit int64) (int64, error) {
	lower := strings.ToLower(strings.TrimSpace(text))
	digits := strings.TrimRight(lower, "abcdefghijklmnopqrstuvwxyz ")
	n, err := strconv.ParseInt(digits, 10, 64)
	factor := int64(0)
	switch strings.TrimSpace(lower[len(digits):]) {
	case "":
		factor = unit
	case "k", "kb", "kib":
		factor = 1 << 10
	case "m", "mb", "mib":
		factor = 1 << 20
	case "g", "gb", "gib":
		factor = 1 << 30
	case "t", "tb", "tib":
		factor = 1 << 40
	}
	switch {
	case err != nil || factor == 0 || n <= 0:
		return 0, fmt.Errorf("%q is not a size: give a whole number, with K, M, G or T behind it", text)
	case n > math.MaxInt64/factor:
		return 0, fmt.Errorf("%q is too large", text)
	case n*factor%unit != 0:
		return 0, fmt.Errorf("%q is not a whole number of %s", text, strings.TrimPrefix(bytesText(unit), "1 "))
	}
	return n * factor / unit, nil
}

// bytesText writes a number of bytes for people.
func bytesText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	value, i := float64(n), 0
	for value >= 1024 && i < len(units)-1 {
		value /= 1024
		i++
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", value), ".0") + " " + units[i]
}
