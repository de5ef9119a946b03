// Package logx sets up logging: log/slog as JSON or text, with what the options name taken from the context, and with
// secrets left out whatever a caller passes. main makes one logger with New and hands it down; modules get theirs with ForModule.
package logx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"
)

// The formats.
const (
	FormatAuto = "auto" // text on a terminal, JSON otherwise
	FormatJSON = "json"
	FormatText = "text"
)

// Extractor takes one attribute out of a context; false where there is none.
type Extractor func(ctx context.Context) (slog.Attr, bool)

// Options say how to log.
type Options struct {
	Writer  io.Writer   // nil: standard error; a Held writes warnings and errors at once
	Format  string      // FormatAuto, FormatJSON or FormatText; empty means FormatAuto
	Level   string      // debug, info, warn or error; empty means info
	Context []Extractor // what to add to every line; an attribute that the line has already is not added
}

// New makes a logger, and the variable by which its level can be changed while it is used.
func New(opts Options) (*slog.Logger, *slog.LevelVar, error) {
	level := new(slog.LevelVar)
	if opts.Level != "" {
		if err := level.UnmarshalText([]byte(opts.Level)); err != nil {
			return nil, nil, fmt.Errorf("log level %q is none of debug, info, warn, error", opts.Level)
		}
	}
	w := opts.Writer
	if w == nil {
		w = os.Stderr
	}
	handlerOpts := &slog.HandlerOptions{Level: level}
	var h slog.Handler
	switch format := opts.Format; {
	case format == FormatText, (format == FormatAuto || format == "") && isTerminal(w):
		h = slog.NewTextHandler(w, handlerOpts)
	case format == FormatJSON, format == FormatAuto, format == "":
		h = slog.NewJSONHandler(w, handlerOpts)
	default:
		return nil, nil, fmt.Errorf("log format %q is none of auto, json, text", format)
	}
	held, _ := w.(*Held)
	return slog.New(&contextHandler{Handler: &cleaner{Handler: h, keys: newVerdicts()}, extract: opts.Context, held: held}), level, nil
}

func isTerminal(w io.Writer) bool {
	if held, ok := w.(*Held); ok {
		w = held.to
	}
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// ForModule gives a module's logger.
func ForModule(log *slog.Logger, module string) *slog.Logger { return log.With("module", module) }

// FromString makes an Extractor of a function that finds a text in a context, such as httpx.RequestID; the empty text is left out.
func FromString(key string, find func(context.Context) string) Extractor {
	return func(ctx context.Context) (slog.Attr, bool) {
		v := find(ctx)
		return slog.String(key, v), v != ""
	}
}

// contextHandler adds what the context knows to every record.
type contextHandler struct {
	slog.Handler
	extract []Extractor
	held    *Held // where lines wait; nil: they do not
}

// Handle implements slog.Handler.
func (h *contextHandler) Handle(ctx context.Context, r slog.Record) error {
	if ctx != nil {
		for _, extract := range h.extract {
			a, ok := extract(ctx)
			if !ok || holds(r, a.Key) {
				continue
			}
			r.AddAttrs(a)
		}
	}
	err := h.Handler.Handle(ctx, r)
	if h.held != nil && r.Level >= slog.LevelWarn {
		err = errors.Join(err, h.held.Flush())
	}
	return err
}

func holds(r slog.Record, key string) bool {
	found := false
	r.Attrs(func(a slog.Attr) bool {
		found = a.Key == key
		return !found
	})
	return found
}

// WithAttrs implements slog.Handler.
func (h *contextHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &contextHandler{Handler: h.Handler.WithAttrs(attrs), extract: h.extract, held: h.held}
}

// WithGroup implements slog.Handler.
func (h *contextHandler) WithGroup(name string) slog.Handler {
	return &contextHandler{Handler: h.Handler.WithGroup(name), extract: h.extract, held: h.held}
}
