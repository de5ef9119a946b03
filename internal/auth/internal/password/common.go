package password

import (
	_ "embed"
	"strings"
	"sync"
)

// commonText lists well-known passwords and the words that most of them are made of, one a line, in order. They are facts about what leaked,
// gathered from two published lists: the list of zxcvbn 4.4.2 (npm), by frequency in leaks up to 2012, and password.lst of John the Ripper 1.9.0
// (Debian's john-data); of the short ones those that are in both or among the first 2500 of the former, of those with twelve characters
// and more all. Names of products that administrators use were added.
//
//go:embed common.txt
var commonText string

// common gives the list as a set; it is made when it is first needed.
var common = sync.OnceValue(func() map[string]struct{} {
	set := map[string]struct{}{}
	for line := range strings.Lines(commonText) {
		set[strings.TrimSuffix(line, "\n")] = struct{}{}
	}
	return set
})

const (
	shortestWord = 4  // of the list
	longestWord  = 40 // of the list
	shortestRun  = 4  // of keys beside each other
	maxWords     = 3  // so many words alone make no password
	maxDigits    = 6  // nor with so many digits more
)

// rows are keys beside each other, and letters and digits in order.
var rows = []string{"abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop[]", "qwertzuiop", "azertyuiop", "asdfghjkl;'", "zxcvbnm,./", "yxcvbnm,.-", "!@#$%^&*()_+"}

// isCommon tells whether a password is one that guessing programs try early: a few well-known words or runs of keys, perhaps with digits and
// signs around and between, with digits for letters, or one short text again and again. own are words that are no secret to anybody, such as the
// user's name.
func isCommon(password string, own ...string) bool {
	text := strings.ToLower(password)
	plain := strings.NewReplacer("0", "o", "1", "i", "3", "e", "4", "a", "5", "s", "7", "t", "@", "a", "$", "s", "!", "i").Replace(text)
	words := func(piece string) bool {
		if _, listed := common()[piece]; listed {
			return true
		}
		for _, w := range own {
			if len(w) >= shortestWord && strings.EqualFold(w, piece) {
				return true
			}
		}
		return false
	}
	return isRepeated(text) || isMadeOf(text, func(from, to int) bool { return words(text[from:to]) || words(plain[from:to]) || isRun(text[from:to]) })
}

// isRepeated tells whether a text is a short one again and again.
func isRepeated(text string) bool {
	for unit := 1; unit <= 6 && unit*2 <= len(text); unit++ {
		if strings.HasPrefix(strings.Repeat(text[:unit], len(text)/unit+1), text) {
			return true
		}
	}
	return false
}

// isMadeOf tells whether a text can be cut into at most maxWords words, at most maxDigits other digits, and signs. word says whether a part
// of it is one.
func isMadeOf(text string, word func(from, to int) bool) bool {
	// reached[i][w] is the fewest digits with which the first i bytes can be cut using w words; none: more than maxDigits.
	const none = maxDigits + 1
	reached := make([][maxWords + 1]int, len(text)+1)
	for i := range reached {
		for w := range reached[i] {
			reached[i][w] = none
		}
	}
	reached[0][0] = 0
	step := func(i, w, digits int) { reached[i][w] = min(reached[i][w], digits) }
	for i := range len(text) {
		for w, digits := range reached[i] {
			if digits == none {
				continue
			}
			switch c := text[i]; {
			case c >= '0' && c <= '9':
				step(i+1, w, digits+1)
			case c < '0' || c > 'z' || c > '9' && c < 'a':
				if c < 0x80 {
					step(i+1, w, digits)
				}
			}
			if w == maxWords {
				continue
			}
			for end := i + shortestWord; end <= len(text) && end-i <= longestWord; end++ {
				if word(i, end) {
					step(end, w+1, digits)
				}
			}
		}
	}
	for w := range maxWords + 1 {
		if reached[len(text)][w] != none {
			return true
		}
	}
	return false
}

// isRun tells whether a text is keys beside each other, in either direction.
func isRun(text string) bool {
	if len(text) < shortestRun {
		return false
	}
	back := []byte(text)
	for i, j := 0, len(back)-1; i < j; i, j = i+1, j-1 {
		back[i], back[j] = back[j], back[i]
	}
	for _, row := range rows {
		if strings.Contains(row, text) || strings.Contains(row, string(back)) {
			return true
		}
	}
	return false
}
