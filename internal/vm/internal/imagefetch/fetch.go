// Package imagefetch gets images from addresses that tenants name. The server behind an address is nobody's friend: where a request may go is
// decided when the connection is made, for every redirect anew, and nothing that the server says is taken on trust. Only the service of the vm
// module uses it.
package imagefetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// How patient an import is.
const (
	attempts     = 6 // in a row that bring nothing
	backOff      = 500 * time.Millisecond
	stallTimeout = time.Minute
	maxRedirects = 5
	syncEvery    = 64 << 20
)

// Fetcher fetches images. It is safe for concurrent use.
type Fetcher struct {
	rules  Rules
	client *http.Client
}

// New makes a fetcher.
func New(rules Rules) *Fetcher {
	dialer := &net.Dialer{Timeout: 15 * time.Second, ControlContext: rules.control}
	return &Fetcher{rules: rules, client: &http.Client{
		Transport: &http.Transport{
			Proxy:       nil,                                                                   // it would connect in our place, to where it likes
			DialContext: dialer.DialContext, ForceAttemptHTTP2: true, DisableCompression: true, // a length that is announced is that of the file
			TLSHandshakeTimeout: 15 * time.Second, ResponseHeaderTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10, DisableKeepAlives: true,
		},
		CheckRedirect: func(to *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return vm.ErrImageFetch.WithMessage("the server redirects more than %d times", maxRedirects)
			}
			if via[len(via)-1].URL.Scheme == "https" && to.URL.Scheme != "https" {
				return vm.ErrImageURL.WithMessage("the server redirects from https to http")
			}
			_, err := rules.Check(to.URL.String())
			to.Header.Del("Referer") // the address that a tenant named is nobody else's affair
			return err
		},
	}}
}

// Check tells whether an address may be tried at all.
func (f *Fetcher) Check(url string) error {
	_, err := f.rules.Check(url)
	return err
}

// Mark is what tells a later attempt whether the file of the server is still the one that was begun. The zero value is the first attempt's.
type Mark struct {
	ETag string `json:"etag"`
}

// Fetch writes what is behind an address to a file that may hold the beginning of it from an earlier attempt. Where the connection breaks, or the
// process has died, it goes on where the server can prove that its file is the same; else it begins anew. keep is told what the next attempt has to
// know; progress how far it is, of -1 where the server does not tell.
func (f *Fetcher) Fetch(ctx context.Context, url string, file *os.File, mark Mark, keep func(Mark) error, progress func(done, total int64)) error {
	u, err := f.rules.Check(url)
	if err != nil {
		return err
	}
	have, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return storage(err)
	}
	t := &transfer{Fetcher: f, url: u.String(), file: file, have: have, mark: mark, keep: keep, progress: progress}
	for try := 0; ; try++ {
		before := t.have
		err := t.attempt(ctx)
		var own *errs.Error
		switch {
		case err == nil:
			return storage(file.Sync())
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &own):
			return err
		case t.have > before:
			try = 0
		}
		if try+1 >= attempts {
			return vm.ErrImageFetch.WithMessage("the image could not be fetched: %s", reason(err)).Wrap(err)
		}
		select {
		case <-time.After(backOff << try):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// reason tells what can be told of a failed connection without telling what else the host can reach.
func reason(err error) string {
	var dns *net.DNSError
	var refused *statusError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "there is no host of this name"
	case errors.As(err, &dns):
		return "the name of the host could not be looked up"
	case errors.As(err, &refused):
		return fmt.Sprintf("the server answers %d", refused.status)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection breaks before the file has ended"
	}
	return "the server cannot be reached, or does not speak HTTP as it should"
}

func storage(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return nodeapi.ErrStorageFull.WithMessage("the storage of the control host is full").Wrap(err)
	}
	return nodeapi.ErrStorage.Wrap(fmt.Errorf("write image: %w", err))
}

// statusError is an answer that another attempt may better.
type statusError struct{ status int }

func (e *statusError) Error() string { return fmt.Sprintf("the server answers %d", e.status) }

type transfer struct {
	*Fetcher
	url      string
	file     *os.File
	have     int64
	mark     Mark
	keep     func(Mark) error
	progress func(done, total int64)
}

func (t *transfer) attempt(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stalled := time.AfterFunc(stallTimeout, cancel)
	defer stalled.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url, nil)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("User-Agent", "NovaCron")
	req.Header.Set("Accept-Encoding", "identity")
	if t.have > 0 && t.mark.ETag != "" { // only a strong validator promises the same bytes (RFC 9110, 13.1.5)
		req.Header.Set("Range", "bytes="+strconv.FormatInt(t.have, 10)+"-")
		req.Header.Set("If-Range", t.mark.ETag)
	}
	res, err := t.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close() // only read
	total, err := t.begin(res)
	if err != nil {
		return err
	}
	if total > t.rules.MaxBytes {
		return t.tooLarge()
	}
	return t.copy(res.Body, total, stalled)
}

func (t *transfer) tooLarge() error {
	return vm.ErrImageTooLarge.WithMessage("the file at the address is larger than the %d bytes that are accepted", t.rules.MaxBytes)
}

// begin makes the file as long as what the answer goes on from, and tells how long it will be; -1 where nobody knows.
func (t *transfer) begin(res *http.Response) (total int64, err error) {
	switch {
	case res.StatusCode == http.StatusPartialContent && req(res):
		var from, to int64
		if n, _ := fmt.Sscanf(res.Header.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &total); n == 3 && from == t.have && to == total-1 {
			return total, nil
		}
		t.mark = Mark{} // what it sends is not what was asked for: the next attempt begins anew
		return 0, &statusError{res.StatusCode}
	case res.StatusCode == http.StatusRequestedRangeNotSatisfiable && req(res):
		t.mark = Mark{}
		return 0, &statusError{res.StatusCode}
	case res.StatusCode == http.StatusOK:
		if enc := res.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
			return 0, vm.ErrImageFetch.WithMessage("the server sends the file packed, in the encoding %q", enc)
		}
		t.mark = Mark{}
		if etag := res.Header.Get("ETag"); strings.HasPrefix(etag, `"`) && len(etag) <= 256 {
			t.mark.ETag = etag
		}
		t.have = 0
		if err := t.file.Truncate(0); err != nil {
			return 0, storage(err)
		}
		if err := t.keep(t.mark); err != nil {
			return 0, err
		}
		return res.ContentLength, nil
	case res.StatusCode >= 500, res.StatusCode == http.StatusTooManyRequests, res.StatusCode == http.StatusRequestTimeout:
		return 0, &statusError{res.StatusCode}
	}
	return 0, vm.ErrImageFetch.WithMessage("the image could not be fetched: the server answers %d", res.StatusCode)
}

// req tells whether a part was asked for.
func req(res *http.Response) bool { return res.Request.Header.Get("Range") != "" }

func (t *transfer) copy(body io.Reader, total int64, stalled *time.Timer) error {
	buf, synced := make([]byte, 256<<10), t.have
	for {
		n, readErr := body.Read(buf)
		if n > 0 {
			stalled.Reset(stallTimeout)
			if t.have+int64(n) > t.rules.MaxBytes {
				return t.tooLarge()
			}
			if _, err := t.file.WriteAt(buf[:n], t.have); err != nil {
				return storage(err)
			}
			t.have += int64(n)
			t.progress(t.have, total)
		}
		if t.have-synced >= syncEvery {
			if err := t.file.Sync(); err != nil {
				return storage(err)
			}
			synced = t.have
		}
		switch {
		case errors.Is(readErr, io.EOF) && total >= 0 && t.have < total:
			return io.ErrUnexpectedEOF
		case errors.Is(readErr, io.EOF):
			return nil
		case readErr != nil:
			return readErr
		}
	}
}
