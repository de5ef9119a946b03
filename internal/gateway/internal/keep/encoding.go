package keep

import (
	"encoding/binary"
	"net/http"
	"time"
)

// A kept answer is encoded as a mark, the time in nanoseconds, the number of header values, each with its name before it, and the body. Numbers
// are uvarints, and each text has its length before it. JSON, in which answers were kept once, would take longer to read than asking the module.

// mark is none that a JSON text begins with.
const mark = 1

func (a *Answer) encode() []byte {
	values := 0
	for _, list := range a.Header {
		values += len(list)
	}
	b := make([]byte, 0, len(a.Body)+256)
	b = binary.AppendUvarint(append(b, mark), uint64(a.At.UnixNano())) //nolint:gosec // after 1970
	b = binary.AppendUvarint(b, uint64(values))                        //nolint:gosec // not negative
	for name, list := range a.Header {
		for _, v := range list {
			b = appendText(appendText(b, name), v)
		}
	}
	return appendText(b, string(a.Body))
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// decode reads an answer. Its texts share the memory of one copy. ok is false for what encode has not made.
func decode(raw []byte) (a *Answer, ok bool) {
	if len(raw) == 0 || raw[0] != mark {
		return nil, false
	}
	p := parser{raw: raw, text: string(raw), at: 1, ok: true}
	a = &Answer{At: time.Unix(0, int64(p.number())), Header: http.Header{}} //nolint:gosec // what encode wrote
	for n := p.number(); n > 0 && p.ok; n-- {
		name, value := p.next(), p.next()
		a.Header[name] = append(a.Header[name], value)
	}
	a.Body = []byte(p.next())
	return a, p.ok && p.at == len(raw)
}

// parser goes through an encoded answer. Once something does not fit, ok is false and all that follows is empty.
type parser struct {
	raw  []byte
	text string // the same
	at   int
	ok   bool
}

func (p *parser) number() uint64 {
	n, size := binary.Uvarint(p.raw[p.at:])
	if p.ok = p.ok && size > 0; !p.ok {
		return 0
	}
	p.at += size
	return n
}

func (p *parser) next() string {
	n := p.number()
	if p.ok = p.ok && n <= uint64(len(p.raw)-p.at); !p.ok { //nolint:gosec // not negative
		return ""
	}
	from := p.at
	p.at += int(n) //nolint:gosec // at most the length of raw
	return p.text[from:p.at]
}
