package encode

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

func TestPick(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]string{
		"": Identity, "gzip": Gzip, "gzip, deflate, br, zstd": Zstd, "gzip, br": Brotli, "GZIP;q=0.5, br;q=0.1": Gzip, "*": Zstd,
		"*;q=0.1, gzip": Gzip, "zstd;q=0, br;q=0, gzip;q=0": Identity, "identity": Identity, "deflate": Identity, "gzip;q=nonsense, br": Brotli,
		"gzip;q=2": Identity, ";;,,": Identity, "*;q=0": Identity, "br ; q=1.0": Brotli, "zstd;q=0, *": Brotli,
		"identity, gzip;q=0.5": Identity, "identity;q=0.5, gzip": Gzip, "gzip, identity": Gzip, "gzip;q=0.5, identity;q=0.5": Gzip, "identity;q=0": Identity,
	} {
		if got := Pick(accept); got != want {
			t.Errorf("%q: %q, want %q", accept, got, want)
		}
	}
}

func TestEveryCodingReadsBack(t *testing.T) {
	t.Parallel()
	e, err := New()
	if err != nil {
		t.Fatal(err)
	}
	text := []byte(strings.Repeat(`{"name":"web","state":"running"},`, 500))
	decode := map[string]func(io.Reader) (io.Reader, error){
		Zstd:     func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) },
		Brotli:   func(r io.Reader) (io.Reader, error) { return brotli.NewReader(r), nil },
		Gzip:     func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		Identity: func(r io.Reader) (io.Reader, error) { return r, nil },
	}
	var wg sync.WaitGroup
	for coding, open := range decode {
		for range 8 {
			wg.Go(func() {
				packed, err := e.Encode(coding, text)
				if err != nil {
					t.Error(err)
					return
				}
				if coding != Identity && len(packed) > len(text)/10 {
					t.Errorf("%s made %d of %d bytes", coding, len(packed), len(text))
				}
				r, err := open(bytes.NewReader(packed))
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, text) {
					t.Errorf("%s does not read back: %v", coding, err)
				}
			})
		}
	}
	wg.Wait()
}

func TestWorth(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]bool{"application/json": true, "application/problem+json": true, "text/plain; charset=utf-8": true,
		"image/png": false, "application/octet-stream": false, "": false, "application/zstd": false} {
		if Worth(kind, 2000) != want {
			t.Errorf("%s: %v", kind, !want)
		}
	}
	if Worth("application/json", MinBytes-1) {
		t.Error("a small answer is compressed")
	}
}

func BenchmarkEncode(b *testing.B) {
	e, err := New()
	if err != nil {
		b.Fatal(err)
	}
	text := []byte(strings.Repeat(`{"id":"01930000-0000-7000-8000-000000000001","name":"web-17","state":"running","node_id":null},`, 100))
	for _, coding := range []string{Zstd, Brotli, Gzip} {
		b.Run(coding, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := e.Encode(coding, text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
