package edge

import (
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/novacron/novacron/internal/gateway"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
)

const defaultPrefix = gateway.APIVersion + "/"

// canonical turns the spellings of a path into the one that modules register: a path without a version stands for the default version,
// and what is under /auth is also found under /api/auth and /api/v1/auth.
func canonical(path string) string {
	rest, ok := strings.CutPrefix(path, "/api/")
	if !ok {
		return path
	}
	if first, _, _ := strings.Cut(rest, "/"); !isVersion(first) {
		rest = defaultPrefix + rest
	}
	if tail, ok := strings.CutPrefix(rest, defaultPrefix); ok && (tail == "auth" || strings.HasPrefix(tail, "auth/")) {
		return "/" + tail
	}
	if len(rest)+len("/api/") == len(path) {
		return path
	}
	return "/api/" + rest
}

// isVersion tells whether a path segment is v and a number.
func isVersion(s string) bool {
	return len(s) > 1 && s[0] == 'v' && strings.Trim(s[1:], "0123456789") == ""
}

// checkVersion refuses a request that asks by header for a version that is not served. Whoever asks in the path is answered by the path.
func checkVersion(r *http.Request) error {
	asked := r.Header.Get("Api-Version")
	if asked == "" || asked == gateway.APIVersion {
		return nil
	}
	if rest, ok := strings.CutPrefix(r.URL.Path, "/api/"); ok {
		if first, _, _ := strings.Cut(rest, "/"); isVersion(first) {
			return nil
		}
	}
	return gateway.ErrUnknownVersion.WithMeta("served", gateway.APIVersion)
}

// route finds the row for a request and gives the URL under which the module knows it.
func (t *Table) route(method string, u *url.URL) (*entry, *url.URL, []string) {
	path, raw := u.Path, u.RawPath
	if raw != "" && !strings.Contains(raw, "%2F") && !strings.Contains(raw, "%2f") {
		raw = "" // the client escaped what needs no escape; only an escaped slash means something else than itself
	}
	path, raw = canonical(path), canonical(raw)
	effective := func() string {
		if raw != "" {
			return raw
		}
		return path
	}
	e, allowed := t.find(method, effective())
	if p := effective(); e == nil && len(allowed) == 0 && len(p) > 1 && strings.HasSuffix(p, "/") {
		path, raw = strings.TrimSuffix(path, "/"), strings.TrimSuffix(raw, "/")
		e, allowed = t.find(method, effective())
	}
	if e == nil || (path == u.Path && raw == u.RawPath) {
		return e, u, allowed
	}
	changed := *u
	changed.Path, changed.RawPath = path, raw
	return e, &changed, nil
}

// maxURLBytes bounds what is parsed. Browsers and proxies do not send longer ones either.
const maxURLBytes = 8 << 10

// sane refuses what no module could make sense of, and what PostgreSQL could not store: a text with a NUL or with bytes that are no
// UTF-8. Bodies are checked by the kit.
func sane(r *http.Request) error {
	if len(r.RequestURI) > maxURLBytes {
		return httpx.ErrMalformed.WithMessage("the URL is longer than %d bytes", maxURLBytes)
	}
	if !utf8.ValidString(r.URL.Path) {
		return httpx.ErrMalformed.WithMessage("the path is not valid UTF-8")
	}
	for i := range len(r.URL.Path) {
		if c := r.URL.Path[i]; c < ' ' || c == 0x7f {
			return httpx.ErrMalformed.WithMessage("the path holds a control character")
		}
	}
	if err := saneQuery(r.URL.RawQuery); err != nil {
		return err
	}
	return saneHeader(r.Header)
}

func saneQuery(raw string) error {
	if raw == "" {
		return nil
	}
	if plain(raw) { // nothing escaped, nothing to find
		return nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return httpx.ErrMalformed.WithMessage("the query is not properly encoded").Wrap(err)
	}
	for name, list := range values {
		if bad := unstorable(name); bad != "" {
			return httpx.ErrMalformed.WithMessage("the name of a query parameter %s", bad)
		}
		for _, v := range list {
			if bad := unstorable(v); bad != "" {
				return malformedAt("query."+name, bad)
			}
		}
	}
	return nil
}

// plain tells whether a query is of printable ASCII without escapes and semicolons.
func plain(raw string) bool {
	for i := range len(raw) {
		if c := raw[i]; c <= ' ' || c >= 0x7f || c == '%' || c == ';' {
			return false
		}
	}
	return true
}

// saneHeader looks at the headers that modules may read. What clients tell about themselves is cleaned where it is used.
func saneHeader(h http.Header) error {
	for name, list := range h {
		switch name {
		case "User-Agent", "Referer", "Cookie", "Via", "From", "X-Request-Id":
			continue
		}
		for _, v := range list {
			if bad := unstorable(v); bad != "" {
				return malformedAt("header."+strings.ToValidUTF8(name, "?"), bad)
			}
		}
	}
	return nil
}

func unstorable(s string) string {
	switch {
	case strings.IndexByte(s, 0) >= 0:
		return "holds the character U+0000"
	case !utf8.ValidString(s):
		return "is not valid UTF-8"
	default:
		return ""
	}
}

func malformedAt(location, message string) *errs.Error {
	return httpx.ErrMalformed.WithMessage("%s %s", location, message).WithField(location, message, "")
}
