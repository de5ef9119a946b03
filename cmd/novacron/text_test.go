package main

import (
	"strings"
	"testing"
)

func TestParseSize(t *testing.T) {
	for _, tc := range []struct {
		text string
		unit int64
		want int64 // 0: refused
	}{
		{"512", 1 << 20, 512}, {"512M", 1 << 20, 512}, {"512 MiB", 1 << 20, 512}, {"512mb", 1 << 20, 512}, {"1G", 1 << 20, 1024}, {"2048K", 1 << 20, 2}, {"1t", 1 << 30, 1024},
		{"5", 1 << 30, 5}, {"5GiB", 1 << 30, 5}, {"1024M", 1 << 30, 1},
		{"", 1, 0}, {"G", 1, 0}, {"0", 1, 0}, {"-1", 1, 0}, {"1.5G", 1 << 20, 0}, {"1X", 1, 0}, {"1ib", 1, 0}, {"1b", 1, 0}, {"1 2", 1, 0}, {"0x10", 1, 0},
		{"1500K", 1 << 20, 0}, {"512M", 1 << 30, 0}, {"9223372036854775807T", 1, 0}, {"9223372036854775808", 1, 0}, {"8796093022208", 1 << 20, 0},
	} {
		got, err := parseSize(tc.text, tc.unit)
		if (err != nil) != (tc.want == 0) || got != tc.want {
			t.Errorf("%q in %d: %d, %v", tc.text, tc.unit, got, err)
		}
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1: "1 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 23<<30 + 20<<20: "23 GiB", 256 << 20: "256 MiB", 1 << 62: "4 EiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

func TestLastLines(t *testing.T) {
	for _, tc := range []struct {
		text string
		n    int
		want string
	}{
		{"", 1, ""}, {"", 0, ""}, {"a", 1, "a"}, {"a\n", 1, "a\n"}, {"a\nb\nc\n", 1, "c\n"}, {"a\nb\nc\n", 2, "b\nc\n"}, {"a\nb\nc", 2, "b\nc"},
		{"a\nb\nc\n", 3, "a\nb\nc\n"}, {"a\nb\n", 9, "a\nb\n"}, {"a\nb\n", 0, ""}, {"a", 0, ""}, {"a\n\n", 1, "\n"},
	} {
		if got := string(lastLines([]byte(tc.text), tc.n)); got != tc.want {
			t.Errorf("%d of %q: %q", tc.n, tc.text, got)
		}
	}
}

func TestYAML(t *testing.T) {
	for in, want := range map[string]string{
		`{"b":1,"a":[true,null,1.50,"x"]}`:                       "b: 1\na:\n  - true\n  - null\n  - 1.50\n  - x\n",
		`{"s":["1","true","null","","a: b","# c","2026-01-02"]}`: "s:\n  - \"1\"\n  - \"true\"\n  - \"null\"\n  - \"\"\n  - 'a: b'\n  - '# c'\n  - \"2026-01-02\"\n",
		`{"t":"a\nb\n","u":"\u00e9\ud83d\ude00"}`:                "t: |\n  a\n  b\nu: \"é\\U0001F600\"\n",
		`[]`: "[]\n", `{}`: "{}\n", `9007199254740993`: "9007199254740993\n",
	} {
		var out strings.Builder
		if err := writeYAML(&out, []byte(in)); err != nil || out.String() != want {
			t.Errorf("%s: %v\n%s", in, err, out.String())
		}
	}
}
