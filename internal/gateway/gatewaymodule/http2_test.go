package gatewaymodule_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// deviations are cases of h2spec 2.2.1 in which the listener does otherwise, with the reason why that is right.
var deviations = map[string]string{
	"http2/4.2: Sends a large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE":                                             "h2spec's headers shrink under HPACK below the size that we announce, so they are answered with 431; TestHTTP2Floods sends a frame that is too large",
	"http2/6.5.3: Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE":                                                               "Go's server hangs up on a setting that is given twice, which no client has a reason to do",
	"http2/6.9.1: Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a stream":                  "the answer is complete before the updates come, and the stream is reset for that (RFC 9113, 8.1)",
	"http2/8.1.2.2: Sends a HEADERS frame that contains the connection-specific header field":                                          "answered with 400, which RFC 9113, 8.1.1 allows",
	"http2/8.1.2.2: Sends a HEADERS frame that contains the TE header field with any value other than \"trailers\"":                    "answered with 400, which RFC 9113, 8.1.1 allows",
	"http2/8.1.2.6: Sends a HEADERS frame with the \"content-length\" header field which does not equal the DATA frame payload length": "answered from the head alone, before the body that does not fit has come; a body that is read ends with an error",
}

// racing are those that depend on which side is quicker.
var racing = regexp.MustCompile(`^http2/6\.9\.1: Sends multiple WINDOW_UPDATE frames .* on a stream$|^http2/8\.1\.2\.6: `)

// h2spec (https://github.com/summerwind/h2spec) plays a client that breaks RFC 9113's predecessor, RFC 7540, and RFC 7541 in some 150 ways; the
// listener must answer each as they say. That the gateway still serves afterwards is checked, too.
func TestHTTP2Conforms(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "h2spec")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/summerwind/h2spec/cmd/h2spec")
	build.Dir = "../../../tools/h2spec" // a module of its own: h2spec stays out of the product's graph
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build h2spec: %v: %s", err, out)
	}
	d, _, _, client, _ := secured(t, nil)
	host, port, err := net.SplitHostPort(strings.TrimPrefix(d.url, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(t.TempDir(), "report.xml")
	// A case waits for so many seconds at most, and few wait at all. The path is one that answers everybody, with a body.
	run := exec.CommandContext(t.Context(), program, "-h", host, "-p", port, "-P", "/api/v1/info", "-t", "-k", "-S", "-o", "3", "-j", report)
	out, _ := run.CombinedOutput() // it fails with the first case that does; the report says which
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatalf("h2spec has made no report: %v: %s", err, out)
	}
	var suites struct {
		Suites []struct {
			Package string `xml:"package,attr"`
			Cases   []struct {
				Name    string `xml:"classname,attr"`
				Failure *struct {
					Text string `xml:",innerxml"`
				} `xml:"failure"`
				Error *struct {
					Text string `xml:",innerxml"`
				} `xml:"error"`
				Skipped *struct{} `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &suites); err != nil {
		t.Fatal(err)
	}
	cases := 0
	for _, s := range suites.Suites {
		for _, c := range s.Cases {
			name := s.Package + ": " + c.Name
			cases++
			_, known := deviations[name]
			switch failed := c.Failure != nil || c.Error != nil; {
			case c.Skipped != nil:
				t.Logf("skipped: %s", name)
			case failed && !known && !racing.MatchString(name):
				t.Errorf("%s: %v %v", name, c.Failure, c.Error)
			case !failed && known && !racing.MatchString(name):
				t.Errorf("%s passes now; take it out of deviations", name)
			}
		}
	}
	if cases < 140 {
		t.Errorf("h2spec has run %d cases only: %s", cases, out)
	}
	resp, err := get(t, client, d.url+"/health")
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("after it all: %v %v", resp, err)
	}
}

// A client that floods loses its connection, and the others notice nothing.
func TestHTTP2Floods(t *testing.T) {
	t.Parallel()
	d, _, _, client, _ := secured(t, nil)
	var head bytes.Buffer
	encode := hpack.NewEncoder(&head)
	for _, f := range []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "x"}, {Name: ":path", Value: "/api/v1/info"}} {
		if err := encode.WriteField(f); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		reads bool // the client takes what the server says
		send  func(f *http2.Framer, n uint32) error
		most  uint32 // so many, and the server must have hung up; 0: it need not
	}{
		// CVE-2023-45288: headers without an end.
		"CONTINUATION": {true, func(f *http2.Framer, n uint32) error {
			if n == 0 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes()})
			}
			return f.WriteContinuation(1, false, make([]byte, 16<<10))
		}, 4000},
		// CVE-2019-9512: answers that nobody takes.
		"PING": {false, func(f *http2.Framer, _ uint32) error { return f.WritePing(false, [8]byte{}) }, 3_000_000},
		// A frame that is larger than the server said.
		"oversized": {true, func(f *http2.Framer, n uint32) error {
			return f.WriteRawFrame(http2.FrameHeaders, 4, 1+2*n, make([]byte, 2<<20))
		}, 10},
		// CVE-2023-44487: requests that are taken back at once. Those that the server is quick enough for are no flood.
		"RST_STREAM": {true, func(f *http2.Framer, n uint32) error {
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1 + 2*n, BlockFragment: head.Bytes(), EndStream: true, EndHeaders: true}); err != nil {
				return err
			}
			return f.WriteRSTStream(1+2*n, http2.ErrCodeCancel)
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}}).DialContext(t.Context(), "tcp", strings.TrimPrefix(d.url, "https://")) //nolint:gosec // who answers is not the question
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
				t.Fatal(err)
			}
			out := bufio.NewWriterSize(conn, 64<<10)
			f := http2.NewFramer(out, conn)
			if err := f.WriteSettings(); err != nil {
				t.Fatal(err)
			}
			drained := make(chan struct{})
			if c.reads {
				go func() { // ends with the connection
					defer close(drained)
					_, _ = io.Copy(io.Discard, conn)
				}()
			} else {
				close(drained)
			}
			hungUp, most := false, c.most
			if most == 0 {
				most = 5000
			}
			for n := uint32(0); n < most && !hungUp; n++ {
				err := c.send(f, n)
				var timeout net.Error
				if hungUp = err != nil; hungUp && errors.As(err, &timeout) && timeout.Timeout() {
					t.Fatalf("after %d frames the server takes no more, and does not hang up", n)
				}
			}
			if !hungUp {
				hungUp = out.Flush() != nil
			}
			if c.most > 0 && !hungUp {
				t.Errorf("the server took %d frames", most)
			}
			resp, err := get(t, client, d.url+"/health")
			if err != nil || resp.StatusCode != 200 {
				t.Errorf("others are not served: %v %v", resp, err)
			}
			conn.Close()
			<-drained
		})
	}
}
