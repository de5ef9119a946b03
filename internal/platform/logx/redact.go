package logx

import (
	"context"
	"log/slog"
	"maps"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
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

// cleaner takes secrets out of records before a handler writes them. Nearly every line holds none and goes on as it came.
type cleaner struct {
	slog.Handler
	keys   *verdicts
	secret bool // an open group is named like a secret: so is what is in it
}

// Handle implements slog.Handler.
func (c *cleaner) Handle(ctx context.Context, r slog.Record) error {
	message := scrub(r.Message)
	clean := message == r.Message
	r.Attrs(func(a slog.Attr) bool {
		if clean {
			_, clean = c.redact(a)
		}
		return clean
	})
	if clean {
		return c.Handler.Handle(ctx, r)
	}
	changed := slog.NewRecord(r.Time, r.Level, message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		a, _ = c.redact(a)
		changed.AddAttrs(a)
		return true
	})
	return c.Handler.Handle(ctx, changed)
}

// WithAttrs implements slog.Handler.
func (c *cleaner) WithAttrs(attrs []slog.Attr) slog.Handler {
	attrs, _ = c.redactAll(attrs)
	return &cleaner{Handler: c.Handler.WithAttrs(attrs), keys: c.keys, secret: c.secret}
}

// WithGroup implements slog.Handler.
func (c *cleaner) WithGroup(name string) slog.Handler {
	return &cleaner{Handler: c.Handler.WithGroup(name), keys: c.keys, secret: c.secret || c.keys.secret(name)}
}

// redact gives an attribute as it may be written, and whether it may be written as it is.
func (c *cleaner) redact(a slog.Attr) (_ slog.Attr, clean bool) {
	if c.secret || c.keys.secret(a.Key) {
		return slog.String(a.Key, Redacted), false
	}
	switch a.Value.Kind() { // Any would take room for every text and number
	case slog.KindString:
		v := a.Value.String()
		if s := scrub(v); s != v {
			return slog.String(a.Key, s), false
		}
	case slog.KindGroup:
		if members, clean := c.redactAll(a.Value.Group()); !clean {
			return slog.Attr{Key: a.Key, Value: slog.GroupValue(members...)}, false
		}
	case slog.KindLogValuer:
		a, _ = c.redact(slog.Attr{Key: a.Key, Value: a.Value.Resolve()})
		return a, false
	case slog.KindAny:
		if err, ok := a.Value.Any().(error); ok {
			return slog.String(a.Key, scrub(err.Error())), false
		}
	default: // numbers and times
	}
	return a, true
}

func (c *cleaner) redactAll(attrs []slog.Attr) (_ []slog.Attr, clean bool) {
	changed := make([]slog.Attr, len(attrs))
	clean = true
	for i, a := range attrs {
		var as bool
		changed[i], as = c.redact(a)
		clean = clean && as
	}
	return changed, clean
}

// verdicts remembers which keys look like those of secrets. Keys are constants of the program, so the first lines teach it all.
type verdicts struct {
	mu    sync.Mutex // makes replacing known one step
	known atomic.Pointer[map[string]bool]
}

// maxVerdicts bounds what is remembered, should keys be made up after all.
const maxVerdicts = 500

func newVerdicts() *verdicts {
	v := &verdicts{}
	v.known.Store(&map[string]bool{})
	return v
}

func (v *verdicts) secret(key string) bool {
	secret, ok := (*v.known.Load())[key]
	if !ok {
		secret = secretKey(key)
		v.remember(key, secret)
	}
	return secret
}

func (v *verdicts) remember(key string, secret bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	known := *v.known.Load()
	if len(known) >= maxVerdicts {
		return
	}
	more := maps.Clone(known)
	more[strings.Clone(key)] = secret
	v.known.Store(&more)
}

// separators are left out before words are looked for.
var separators = strings.NewReplacer("_", "", "-", "", ".", "")

func secretKey(key string) bool {
	key = separators.Replace(strings.ToLower(key))
	for _, word := range secretWords {
		if !strings.Contains(key, word) {
			continue
		}
		for _, suffix := range harmlessSuffixes {
			if strings.HasSuffix(key, suffix) {
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
		if namesScheme(s) {
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

// namesScheme tells whether a text holds the name of a way to authenticate, in any case. It is asked of every text, and so takes no room.
func namesScheme(s string) bool {
	const bearer, basic = "bearer", "basic"
	for i := range len(s) {
		if s[i]|0x20 != 'b' {
			continue
		}
		rest := s[i:]
		if len(rest) >= len(bearer) && strings.EqualFold(rest[:len(bearer)], bearer) || len(rest) >= len(basic) && strings.EqualFold(rest[:len(basic)], basic) {
			return true
		}
	}
	return false
}
