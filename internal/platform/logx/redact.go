package logx

import (
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
	switch v := a.Value.Any().(type) {
	case string:
		if clean := scrub(v); clean != v {
			return slog.String(a.Key, clean)
		}
	case error:
		return slog.String(a.Key, scrub(v.Error()))
	}
	return a
}

func secretKey(key string) bool {
	k := strings.NewReplacer("_", "", "-", "", ".", "").Replace(strings.ToLower(key))
	for _, word := range secretWords {
		if !strings.Contains(k, word) {
			continue
		}
		for _, suffix := range harmlessSuffixes {
			if strings.HasSuffix(k, suffix) {
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
