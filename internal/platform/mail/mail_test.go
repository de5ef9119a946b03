package mail_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/novacron/novacron/internal/platform/mail"
	"github.com/novacron/novacron/internal/platform/mail/smtptest"
)

func send(t *testing.T, cfg mail.Config, m mail.Message) error {
	t.Helper()
	if cfg.From == "" {
		cfg.From = "NovaCron <cloud@example.org>"
	}
	cfg.Host = "127.0.0.1"
	cfg.Timeout = 20 * time.Second
	s, err := mail.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return s.Send(ctx, m)
}

var letter = mail.Message{To: "ada@example.org", Subject: "Grüße", Text: "First line.\n\n.\nA dot alone, a long line " + strings.Repeat("x", 200) + ", ümläuts.\n"}

func TestSend(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		server smtptest.Options
		mode   string
		user   string
	}{
		"in the clear":           {smtptest.Options{}, mail.TLSNone, ""},
		"STARTTLS":               {smtptest.Options{StartTLS: true}, mail.TLSStart, ""},
		"STARTTLS, logged in":    {smtptest.Options{StartTLS: true, Username: "u", Password: "pä"}, mail.TLSStart, "u"},
		"TLS from the beginning": {smtptest.Options{Implicit: true, Username: "u", Password: "pä"}, mail.TLSImplicit, "u"},
	} {
		t.Run(name, func(t *testing.T) {
			server := smtptest.Start(t, c.server)
			cfg := mail.Config{Port: server.Port, TLS: c.mode, CAFile: server.CAFile, Username: c.user, Password: c.server.Password}
			if err := send(t, cfg, letter); err != nil {
				t.Fatal(err)
			}
			got := server.Await(t, 1)[0]
			if got.From != "cloud@example.org" || got.To != "ada@example.org" || got.User != c.user || got.Encrypted != (c.mode != mail.TLSNone) {
				t.Errorf("%+v", got)
			}
			if text := strings.ReplaceAll(got.Body, "\r\n", "\n"); strings.TrimSpace(text) != strings.TrimSpace(letter.Text) {
				t.Errorf("text %q", text)
			}
			if got.Header.Get("Date") == "" || got.Header.Get("Message-Id") == "" || got.Header.Get("Auto-Submitted") != "auto-generated" {
				t.Errorf("header %v", got.Header)
			}
		})
	}
}

func TestNothingIsSentUnprotected(t *testing.T) {
	t.Parallel()
	plain := smtptest.Start(t, smtptest.Options{})
	if err := send(t, mail.Config{Port: plain.Port, TLS: mail.TLSStart}, letter); err == nil {
		t.Error("sent in the clear although STARTTLS was asked for")
	}
	stranger := smtptest.Start(t, smtptest.Options{StartTLS: true})
	if err := send(t, mail.Config{Port: stranger.Port, TLS: mail.TLSStart}, letter); err == nil {
		t.Error("sent to a server with a certificate that nobody vouches for")
	}
	if n := len(plain.Mails()) + len(stranger.Mails()); n != 0 {
		t.Errorf("%d mails", n)
	}
}

func TestFailuresAreTold(t *testing.T) {
	t.Parallel()
	full := smtptest.Start(t, smtptest.Options{Refuse: func(int) string { return "452 4.2.2 mailbox full" }})
	if err := send(t, mail.Config{Port: full.Port, TLS: mail.TLSNone}, letter); err == nil || !strings.Contains(err.Error(), "452") {
		t.Errorf("a refused mail: %v", err)
	}
	guarded := smtptest.Start(t, smtptest.Options{StartTLS: true, Username: "u", Password: "right"})
	err := send(t, mail.Config{Port: guarded.Port, TLS: mail.TLSStart, CAFile: guarded.CAFile, Username: "u", Password: "wrong"}, letter)
	if err == nil {
		t.Error("a wrong password is taken")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := send(t, mail.Config{Port: port, TLS: mail.TLSNone}, letter); err == nil {
		t.Error("sent to nobody")
	}
	ok := smtptest.Start(t, smtptest.Options{})
	for _, m := range []mail.Message{{To: "a@example.org\r\nBcc: b@example.org", Subject: "x"}, {To: "a@example.org", Subject: "x\r\nBcc: b@example.org"}, {To: "nobody", Subject: "x"}} {
		if err := send(t, mail.Config{Port: ok.Port, TLS: mail.TLSNone}, m); err == nil {
			t.Errorf("%+v was sent", m)
		}
	}
	if n := len(ok.Mails()); n != 0 {
		t.Errorf("%d mails", n)
	}
}

func TestConfigMistakes(t *testing.T) {
	for _, c := range []mail.Config{
		{Host: "h"}, {Host: "h", From: "nobody"}, {Host: "h", From: "a@b", TLS: "ssl"}, {Host: "h", From: "a@b", Port: 70000}, {Host: "h", From: "a@b", Password: "x"},
		{Host: "h", From: "a@b", Username: "u", TLS: mail.TLSNone}, {Host: "h", From: "a@b", Timeout: -1},
	} {
		if len(c.Validate()) == 0 {
			t.Errorf("%+v is taken", c)
		}
		if _, err := mail.New(c); err == nil {
			t.Errorf("%+v works", c)
		}
	}
	if errs := (mail.Config{}).Validate(); errs != nil {
		t.Errorf("no mail at all: %v", errs)
	}
	if _, err := mail.New(mail.Config{}); err == nil {
		t.Error("a sender without a server")
	}
}
