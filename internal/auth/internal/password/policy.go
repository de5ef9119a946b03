package password

import (
	"crypto/rand"
	"fmt"
	"strings"
	"unicode/utf8"
)

// The bounds of a password. The upper one keeps hashing cheap; argon2 itself would take any length.
const (
	MinCharacters = 12
	MaxBytes      = 256
)

// Complaint tells, for people, what is wrong with a new password of the named user, or "".
func Complaint(password, username, email string) string {
	switch {
	case !utf8.ValidString(password) || strings.ContainsRune(password, 0):
		return "must be valid UTF-8 without U+0000"
	case utf8.RuneCountInString(password) < MinCharacters:
		return fmt.Sprintf("must have at least %d characters", MinCharacters)
	case len(password) > MaxBytes:
		return fmt.Sprintf("must have at most %d bytes", MaxBytes)
	case distinct(password) < 5:
		return "must have at least 5 different characters"
	case strings.EqualFold(password, username) || (email != "" && strings.EqualFold(password, email)):
		return "must not be the user name or the e-mail address"
	case isCommon(password, username, localPart(email)):
		return "must not be one of the passwords that are guessed first"
	}
	return ""
}

// localPart gives what is before the @ of an address.
func localPart(email string) string {
	name, _, _ := strings.Cut(email, "@")
	return name
}

func distinct(s string) int {
	seen := map[rune]struct{}{}
	for _, r := range s {
		seen[r] = struct{}{}
	}
	return len(seen)
}

// Generate makes a password of 24 characters that nobody has chosen: about 128 bits. Base32 without padding reads well aloud.
func Generate() string { return rand.Text()[:24] }
