// Package encode compresses answers that are whole in memory, in the best way that the client understands (RFC 9110, section 12.5.3).
//
// A compressed answer that holds both a secret and something that an attacker chose tells the attacker by its length how much of the secret was
// guessed (the BREACH attack). So the edge gives answers to GET only to this package: secrets of this API are in answers to POST, and
// credentials are never sent by a browser on its own.
package encode

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// MinBytes is the size below which compressing does not pay: the answer fits into one packet as it is.
const MinBytes = 1024

// The codings in the order of preference.
const (
	Zstd     = "zstd"
	Brotli   = "br"
	Gzip     = "gzip"
	Identity = ""
)

// Encoder is safe for concurrent use.
type Encoder struct {
	zstd   *zstd.Encoder
	brotli sync.Pool
	gzip   sync.Pool
}

// Levels are those at which the coders compress JSON about as well as they can without taking more than a few microseconds for each KiB.
const (
	brotliLevel = 4
	gzipLevel   = 5
)

// New makes an Encoder.
func New() (*Encoder, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("make zstd encoder: %w", err)
	}
	return &Encoder{zstd: z,
		brotli: sync.Pool{New: func() any { return brotli.NewWriterLevel(nil, brotliLevel) }},
		gzip: sync.Pool{New: func() any {
			w, _ := gzip.NewWriterLevel(nil, gzipLevel) // the level is one there is
			return w
		}},
	}, nil
}

// Pick gives the coding to use for a client that sent this Accept-Encoding, or Identity.
func Pick(accept string) string {
	if accept == "" {
		return Identity
	}
	best, bestQ, any := Identity, 0.0, -1.0
	qs := map[string]float64{}
	for part := range strings.SplitSeq(accept, ",") {
		name, params, _ := strings.Cut(part, ";")
		q := 1.0
		if value, ok := strings.CutPrefix(strings.TrimSpace(params), "q="); ok {
			parsed, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil || parsed < 0 || parsed > 1 {
				continue
			}
			q = parsed
		}
		switch name = strings.ToLower(strings.TrimSpace(name)); name {
		case "*":
			any = q
		case Zstd, Brotli, Gzip:
			qs[name] = q
		case "identity":
			bestQ = q // what the client likes less than an answer as it is, it does not get
		}
	}
	for _, name := range []string{Zstd, Brotli, Gzip} {
		q, named := qs[name]
		if !named {
			q = any
		}
		if q > bestQ || q == bestQ && q > 0 && best == Identity {
			best, bestQ = name, q
		}
	}
	return best
}

// Worth tells whether an answer of this type and size should be compressed.
func Worth(contentType string, size int) bool {
	if size < MinBytes {
		return false
	}
	kind, _, _ := strings.Cut(contentType, ";")
	switch kind = strings.TrimSpace(kind); {
	case strings.HasPrefix(kind, "text/"), strings.HasSuffix(kind, "+json"), strings.HasSuffix(kind, "+xml"):
		return true
	default:
		return kind == "application/json" || kind == "application/yaml" || kind == "application/javascript" || kind == "image/svg+xml"
	}
}

// Encode compresses src. It gives src itself for Identity.
func (e *Encoder) Encode(coding string, src []byte) ([]byte, error) {
	switch coding {
	case Zstd:
		return e.zstd.EncodeAll(src, make([]byte, 0, len(src)/3)), nil
	case Brotli:
		w, _ := e.brotli.Get().(*brotli.Writer)
		defer e.brotli.Put(w)
		var out bytes.Buffer
		w.Reset(&out)
		if _, err := w.Write(src); err != nil {
			return nil, fmt.Errorf("compress with brotli: %w", err)
		}
		if err := w.Close(); err != nil {
			return nil, fmt.Errorf("compress with brotli: %w", err)
		}
		return out.Bytes(), nil
	case Gzip:
		w, _ := e.gzip.Get().(*gzip.Writer)
		defer e.gzip.Put(w)
		var out bytes.Buffer
		w.Reset(&out)
		if _, err := w.Write(src); err != nil {
			return nil, fmt.Errorf("compress with gzip: %w", err)
		}
		if err := w.Close(); err != nil {
			return nil, fmt.Errorf("compress with gzip: %w", err)
		}
		return out.Bytes(), nil
	default:
		return src, nil
	}
}
