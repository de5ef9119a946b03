// Package smtptest is an SMTP server on the loopback interface, for tests: it speaks enough of RFC 5321 for a client to hand over mail, with
// STARTTLS (RFC 3207), TLS from the first byte, and AUTH PLAIN and LOGIN (RFC 4954), and keeps what it is given.
package smtptest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Options say how the server behaves.
type Options struct {
	StartTLS bool
	Implicit bool   // TLS from the first byte
	Username string // who must log in; empty: nobody need
	Password string
	// Refuse gives the answer to the n-th mail, from 1, such as "451 4.3.0 try later"; empty takes it. Nil takes all.
	Refuse func(n int) string
}

// Mail is one that was taken.
type Mail struct {
	From, To  string
	Header    mail.Header
	Body      string
	Encrypted bool
	User      string // who had logged in
}

// Server is the server.
type Server struct {
	Port   int
	CAFile string // its certificate

	opts     Options
	listener net.Listener
	cert     tls.Certificate
	conns    sync.WaitGroup

	mu      sync.Mutex // guards what follows
	open    []net.Conn
	mails   []Mail
	tried   int
	arrived chan struct{} // closed and made anew when a mail was taken or refused
}

// Start runs a server until the test ends.
func Start(t testing.TB, opts Options) *Server {
	t.Helper()
	s := &Server{opts: opts, arrived: make(chan struct{})}
	s.certify(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Port = l.Addr().(*net.TCPAddr).Port
	if opts.Implicit {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{s.cert}, MinVersion: tls.VersionTLS12})
	}
	s.listener = l
	s.conns.Go(s.serve)
	t.Cleanup(func() {
		_ = s.listener.Close()
		s.mu.Lock()
		for _, c := range s.open {
			_ = c.Close()
		}
		s.mu.Unlock()
		s.conns.Wait()
	})
	return s
}

func (s *Server) certify(t testing.TB) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	s.cert = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	s.CAFile = filepath.Join(t.TempDir(), "mail-ca.crt")
	if err := os.WriteFile(s.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) serve() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.open = append(s.open, c)
		s.mu.Unlock()
		s.conns.Go(func() { s.converse(c) })
	}
}

// Mails gives what was taken so far.
func (s *Server) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mails)
}

// Await waits until so many mails were taken, and gives them.
func (s *Server) Await(t testing.TB, n int) []Mail {
	t.Helper()
	late := time.After(time.Minute)
	for {
		s.mu.Lock()
		mails, next := slices.Clone(s.mails), s.arrived
		s.mu.Unlock()
		if len(mails) >= n {
			return mails
		}
		select {
		case <-next:
		case <-late:
			t.Fatalf("%d mails of %d came", len(mails), n)
		}
	}
}

// talk is one conversation.
type talk struct {
	*bufio.Reader
	conn      net.Conn
	encrypted bool
	user      string
	from, to  string
}

func (k *talk) say(lines ...string) {
	_, _ = k.conn.Write([]byte(strings.Join(lines, "\r\n") + "\r\n"))
}

func (k *talk) hear() (string, bool) {
	line, err := k.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err == nil
}

func (s *Server) converse(c net.Conn) {
	defer func() { _ = c.Close() }()
	k := &talk{Reader: bufio.NewReader(c), conn: c, encrypted: s.opts.Implicit}
	k.say("220 mail.test ESMTP")
	for {
		line, ok := k.hear()
		if !ok {
			return
		}
		verb, rest, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "EHLO", "HELO":
			lines := []string{"250-mail.test"}
			if s.opts.StartTLS && !k.encrypted {
				lines = append(lines, "250-STARTTLS")
			}
			if s.opts.Username != "" && k.encrypted {
				lines = append(lines, "250-AUTH PLAIN LOGIN")
			}
			k.say(append(lines, "250 8BITMIME")...)
		case "STARTTLS":
			k.say("220 go on")
			secured := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{s.cert}, MinVersion: tls.VersionTLS12})
			if secured.Handshake() != nil {
				return
			}
			k.Reader, k.conn, k.encrypted = bufio.NewReader(secured), secured, true
		case "AUTH":
			if !s.login(k, rest) {
				return
			}
		case "MAIL":
			if s.opts.Username != "" && k.user == "" {
				k.say("530 5.7.0 log in first")
				continue
			}
			k.from = address(rest)
			k.say("250 ok")
		case "RCPT":
			k.to = address(rest)
			k.say("250 ok")
		case "DATA":
			k.say("354 go on")
			if !s.take(k) {
				return
			}
		case "QUIT":
			k.say("221 bye")
			return
		default: // NOOP, RSET
			k.say("250 ok")
		}
	}
}

// login hears AUTH PLAIN or AUTH LOGIN out. It gives false where the client has left.
func (s *Server) login(k *talk, rest string) bool {
	mechanism, initial, _ := strings.Cut(rest, " ")
	ask := func(prompt string) string {
		k.say("334 " + base64.StdEncoding.EncodeToString([]byte(prompt)))
		line, _ := k.hear()
		return line
	}
	decode := func(text string) string {
		raw, _ := base64.StdEncoding.DecodeString(text)
		return string(raw)
	}
	var user, password string
	if strings.EqualFold(mechanism, "PLAIN") {
		if initial == "" {
			initial = ask("")
		}
		parts := strings.Split(decode(initial), "\x00")
		if len(parts) == 3 {
			user, password = parts[1], parts[2]
		}
	} else {
		user, password = decode(ask("Username:")), decode(ask("Password:"))
	}
	if user != s.opts.Username || password != s.opts.Password {
		k.say("535 5.7.8 wrong")
		return true
	}
	k.user = user
	k.say("235 ok")
	return true
}

// take hears a mail out. It gives false where the client has left.
func (s *Server) take(k *talk) bool {
	var text strings.Builder
	for {
		line, ok := k.hear()
		if !ok {
			return false
		}
		if line == "." {
			break
		}
		text.WriteString(strings.TrimPrefix(line, ".") + "\n")
	}
	answer := "250 taken"
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried++
	if s.opts.Refuse != nil {
		if no := s.opts.Refuse(s.tried); no != "" {
			answer = no
		}
	}
	if strings.HasPrefix(answer, "250") {
		m := Mail{From: k.from, To: k.to, Encrypted: k.encrypted, User: k.user}
		if parsed, err := mail.ReadMessage(strings.NewReader(text.String())); err == nil {
			m.Header = parsed.Header
			var body strings.Builder
			_, _ = bufio.NewReader(quotedprintable.NewReader(parsed.Body)).WriteTo(&body)
			m.Body = body.String()
		}
		s.mails = append(s.mails, m)
	}
	close(s.arrived)
	s.arrived = make(chan struct{})
	k.say(answer)
	return true
}

func address(text string) string {
	_, text, _ = strings.Cut(text, "<")
	text, _, _ = strings.Cut(text, ">")
	return text
}
