package keep

import (
	"bytes"
	"net/http"
	"reflect"
	"testing"
	"time"
)

func TestAnswersAreReadAsTheyWereKept(t *testing.T) {
	for _, a := range []Answer{
		{Header: http.Header{}, Body: []byte{}, At: time.Unix(0, 0)},
		{Header: http.Header{"Content-Type": {"application/json"}, "Link": {"<a>", "<b>"}, "Etag": {""}}, Body: bytes.Repeat([]byte("ä\x00"), 1000), At: time.Now()},
	} {
		raw := a.encode()
		got, ok := decode(raw)
		if !ok || !reflect.DeepEqual(got.Header, a.Header) || !bytes.Equal(got.Body, a.Body) || !got.At.Equal(a.At) {
			t.Errorf("kept %+v, read %+v %t", a, got, ok)
		}
		for n := range raw {
			if _, ok := decode(raw[:n]); ok {
				t.Errorf("the first %d bytes of %d pass for an answer", n, len(raw))
			}
		}
		if _, ok := decode(append(raw, 0)); ok {
			t.Error("an answer with something behind it passes")
		}
	}
	if _, ok := decode([]byte(`{"header":{},"body":"","at":"2026-01-01T00:00:00Z"}`)); ok {
		t.Error("JSON passes for an answer")
	}
}

func FuzzDecode(f *testing.F) {
	a := Answer{Header: http.Header{"Etag": {"x"}}, Body: []byte("body"), At: time.Unix(1, 2)}
	f.Add(a.encode())
	f.Add([]byte{mark, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if got, ok := decode(raw); ok {
			if again, ok := decode(got.encode()); !ok || !reflect.DeepEqual(got.Header, again.Header) || !bytes.Equal(got.Body, again.Body) {
				t.Errorf("%q is read as %+v, and then as %+v", raw, got, again)
			}
		}
	})
}
