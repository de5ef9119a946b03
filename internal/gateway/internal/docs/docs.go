// Package docs holds the pages that people read: the interactive API documentation and the reference of errors. Everything is embedded;
// nothing is fetched from elsewhere. Swagger UI comes from github.com/swaggest/swgui (Apache-2.0, like Swagger UI itself).
package docs

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed" // for the pages
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/swaggest/swgui/v5/static"

	"github.com/novacron/novacron/internal/gateway/internal/encode"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
)

//go:embed index.html
var index []byte

//go:embed start.js
var start []byte

//go:embed errors.css
var errorsCSS []byte

//go:embed errors.html
var errorsHTML string

// policy lets the pages load what this server has, and nothing else. Swagger UI sets styles in attributes and shows images as data.
const policy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// File is something that is served as it is.
type File struct {
	contentType string
	etag        string
	data        []byte // nil: only packed is kept
	packed      []byte // with gzip; nil where that does not pay
}

// NewFile makes a File. It compresses what is text, once for all who ask.
func NewFile(contentType string, data []byte) *File {
	f := &File{contentType: contentType, data: data, etag: tag(data)}
	if encode.Worth(contentType, len(data)) {
		var b bytes.Buffer
		zw := gzip.NewWriter(&b)
		if _, err := zw.Write(data); err == nil && zw.Close() == nil { // a buffer takes everything
			f.packed = b.Bytes()
		}
	}
	return f
}

// newPacked makes a File of what is compressed already.
func newPacked(contentType string, packed []byte) *File {
	return &File{contentType: contentType, packed: packed, etag: tag(packed)}
}

func tag(data []byte) string {
	sum := sha256.Sum256(data)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
}

// ServeHTTP serves the file; a client that has it already gets 304.
func (f *File) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Security-Policy", policy)
	data, etag := f.data, f.etag
	if f.packed != nil {
		h.Add("Vary", "Accept-Encoding")
	}
	switch {
	case f.packed != nil && acceptsGzip(r.Header.Values("Accept-Encoding")):
		h.Set("Content-Encoding", "gzip")
		data, etag = f.packed, strings.TrimSuffix(etag, `"`)+`-gz"`
	case data == nil:
		var err error
		if data, err = gunzip(f.packed); err != nil {
			httpx.WriteError(w, r, fmt.Errorf("unpack embedded file: %w", err))
			return
		}
	}
	h.Set("ETag", etag)
	r = r.Clone(r.Context())
	for _, name := range []string{"If-Match", "If-Unmodified-Since", "Range"} { // nobody reads a page by parts, and a refusal would be no problem document
		r.Header.Del(name)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// acceptsGzip reads Accept-Encoding (RFC 9110, section 12.5.3) as far as it concerns gzip.
func acceptsGzip(accept []string) bool {
	for _, part := range strings.Split(strings.Join(accept, ","), ",") {
		name, params, _ := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		weight, weighted := strings.CutPrefix(strings.TrimSpace(params), "q=")
		return !weighted || strings.Trim(weight, "0.") != ""
	}
	return false
}

// Pages are the pages and what belongs to them.
type Pages struct {
	Index  http.Handler
	Errors http.Handler
	files  map[string]*File
}

// New makes the pages. The errors are those of all modules.
func New(list []*errs.Error) (*Pages, error) {
	errorsPage, err := renderErrors(list)
	if err != nil {
		return nil, err
	}
	p := &Pages{
		Index:  NewFile("text/html; charset=utf-8", index),
		Errors: NewFile("text/html; charset=utf-8", errorsPage),
		files: map[string]*File{
			"start.js":   NewFile("text/javascript; charset=utf-8", start),
			"errors.css": NewFile("text/css; charset=utf-8", errorsCSS),
		},
	}
	for name, contentType := range map[string]string{
		"swagger-ui.css.gz": "text/css; charset=utf-8", "swagger-ui-bundle.js.gz": "text/javascript; charset=utf-8", "favicon-32x32.png": "image/png",
	} {
		data, err := fs.ReadFile(static.FS, name)
		if err != nil {
			return nil, fmt.Errorf("read embedded documentation: %w", err)
		}
		if plain, packed := strings.CutSuffix(name, ".gz"); packed {
			p.files[plain] = newPacked(contentType, data)
		} else {
			p.files[name] = NewFile(contentType, data)
		}
	}
	return p, nil
}

// File serves what belongs to the pages, by the name that nameOf finds in the request.
func (p *Pages) File(nameOf func(*http.Request) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f, ok := p.files[nameOf(r)]
		if !ok {
			httpx.WriteError(w, r, httpx.ErrNotFound)
			return
		}
		f.ServeHTTP(w, r)
	}
}

func gunzip(data []byte) ([]byte, error) {
	zr, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(zr)
}

func renderErrors(list []*errs.Error) ([]byte, error) {
	type row struct {
		Code, Message, Action string
		Status                int
		Retryable             bool
	}
	var rows []row
	for _, e := range list {
		rows = append(rows, row{Code: e.Code, Message: e.Message, Action: e.Action, Status: errs.HTTPStatus(e.Kind), Retryable: e.Retryable})
	}
	page, err := template.New("errors").Parse(errorsHTML)
	if err != nil {
		return nil, fmt.Errorf("parse page of errors: %w", err)
	}
	var b bytes.Buffer
	if err := page.Execute(&b, rows); err != nil {
		return nil, fmt.Errorf("make page of errors: %w", err)
	}
	return b.Bytes(), nil
}
