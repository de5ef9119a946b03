package logx

import (
	"bytes"
	"log/slog"
	"regexp"
	"strings"
)

// Redacted stands where a secret would have been.
const Redacted = "[redacted]"

// secretWords make a key look as if its value were a secret. They are looked for in the lower-case key without separators.
var secretWords = []string{"password", "passwd", "passphrase", "secret", "token", "authorization", "cookie", "apikey", "privatekey", "credential",
	"userdata"}

// harmlessSuffixes belong to keys that tell something about a secret, not the secret.
var harmlessSuffixes = []string{"id", "file", "path", "count", "expiresat", "expiry", "ttl", "changedat", "type", "present"}

// userInfo is the password part of a URL; bearer is a token as it is sent; apiKey is an API key of ours. They are looked for in texts and errors under any key.
var (
	userInfo = regexp.MustCompile(`(://[^\s/?#@:]*):[^\s/?#@]*@`)
	bearer   = regexp.MustCompile(`(?i)\b(bearer|authorization:?\s+basic)\s+[A-Za-z0-9._~+/=-]{12,}`)
	apiKey   = regexp.MustCompile(`\b(nck_[a-z2-7]{12})_[0-9A-Za-z]+`)
	jwt      = regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`)
)

// redact is a ReplaceAttr function. slog calls it for every attribute, also those of groups.
func redact(groups []string, a slog.Attr) slog.Attr {
	if secretKey(a.Key) {
		return slog.String(a.Key, Redacted)
	}
	for _, g := range groups {
		if secretKey(g) {
			return slog.String(a.Key, Redacted)
		}
	}
	switch a.Value.Kind() { // Any would take room for every text and number
	case slog.KindString:
		v := a.Value.String()
		if clean := scrub(v); clean != v {
			return slog.String(a.Key, clean)
		}
	case slog.KindAny:
		switch v := a.Value.Any().(type) {
		case string:
			if clean := scrub(v); clean != v {
				return slog.String(a.Key, clean)
			}
		case error:
			return slog.String(a.Key, scrub(v.Error()))
		}
	default:
	}
	return a
}

// separators are left out before words are looked for.
var separators = strings.NewReplacer("_", "", "-", "", ".", "")

// secretKey is asked for every attribute of every line, so the usual key, short and plain ASCII, takes no room on the heap.
func secretKey(key string) bool {
	var space [48]byte
	plain := space[:0]
	for i := range len(key) {
		switch c := key[i]; {
		case c >= 0x80 || len(plain) == len(space):
			return secretWord([]byte(separators.Replace(strings.ToLower(key))))
		case c == '_' || c == '-' || c == '.':
		case c >= 'A' && c <= 'Z':
			plain = append(plain, c+'a'-'A')
		default:
			plain = append(plain, c)
		}
	}
	return secretWord(plain)
}

func secretWord(key []byte) bool {
	for _, word := range secretWords {
		if !bytes.Contains(key, []byte(word)) {
			continue
		}
		for _, suffix := range harmlessSuffixes {
			if bytes.HasSuffix(key, []byte(suffix)) {
				return false
			}
		}
		return true
	}
	return false
}

func scrub(s string) string {
	if strings.Contains(s, "://") {
		s = userInfo.ReplaceAllString(s, "$1:"+Redacted+"@")
	}
	if len(s) > 12 {
		if lower := strings.ToLower(s); strings.Contains(lower, "bearer") || strings.Contains(lower, "basic") {
			s = bearer.ReplaceAllString(s, "$1 "+Redacted)
		}
		if strings.Contains(s, "nck_") { // what names the key may be seen
			s = apiKey.ReplaceAllString(s, "${1}_"+Redacted)
		}
		if strings.Contains(s, "eyJ") {
			s = jwt.ReplaceAllString(s, Redacted)
		}
	}
	return s
}
