package apiclient

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// upload is a body that is streamed.
type upload struct {
	from     io.Reader
	size     int64 // -1: not known
	progress func(sent int64)
}

func (u *upload) canRewind() bool {
	_, ok := u.from.(io.Seeker)
	return ok
}

// uploadError is a failure to read what is to be sent.
type uploadError struct{ err error }

func (e *uploadError) Error() string { return fmt.Sprintf("read what is to be uploaded: %v", e.err) }
func (e *uploadError) Unwrap() error { return e.err }

// attach makes a request send the stream from its beginning. After detach nothing reads from it any more, so that it can be sent again:
// the transport may go on reading a body when the answer has come already.
func (u *upload) attach(req *http.Request) (detach func(), err error) {
	if s, ok := u.from.(io.Seeker); ok {
		if _, err := s.Seek(0, io.SeekStart); err != nil {
			return nil, &uploadError{err}
		}
	}
	body := &uploadBody{upload: u}
	req.Body, req.ContentLength = body, u.size
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Expect", "100-continue") // so that a refusal comes before the bytes go out
	return func() { _ = body.Close() }, nil  // it cannot fail
}

// uploadBody is one sending of an upload.
type uploadBody struct {
	mu     sync.Mutex // held while the source is read; guards the rest
	upload *upload
	sent   int64
	closed bool
}

func (b *uploadBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.upload.from.Read(p)
	b.sent += int64(n)
	if n > 0 && b.upload.progress != nil {
		b.upload.progress(b.sent)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = &uploadError{err}
	}
	return n, err
}

func (b *uploadBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}
