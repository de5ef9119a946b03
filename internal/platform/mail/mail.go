// Package mail sends mail through an SMTP server of the operator's. It holds no texts and knows no users; any module may use it.
package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/mail"
	"os"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
)

// The ways to encrypt the connection.
const (
	TLSImplicit = "tls"      // from the first byte, as on port 465
	TLSStart    = "starttls" // or no mail is sent, as on port 587
	TLSNone     = "none"     // for a relay on this host
)

// Config says how to reach the server.
type Config struct {
	Host string // empty: there is no mail
	Port int    // 0: 465 with TLSImplicit, else 587, or 25 with TLSNone
	TLS  string // one of the constants; empty: TLSStart
	// CAFile holds certificates, in PEM, that the server's is checked against. Empty: those of the system.
	CAFile string
	// Username and Password log in to the server; without a user name nobody does.
	Username, Password string
	From               string // address, or "Name <address>"
	HELO               string // name of this host; empty: what the system says
	// Timeout bounds each step of a conversation. 0: 15 seconds.
	Timeout time.Duration
}

// Message is one mail.
type Message struct {
	To      string // one address
	Subject string
	Text    string
}

// Sender sends mail, one connection each. It is safe for concurrent use.
type Sender struct {
	cfg   Config
	roots *x509.CertPool
}

// Validate lists what is wrong with a configuration; nil where there is no mail.
func (c Config) Validate() []error {
	if c.Host == "" {
		return nil
	}
	var wrong []error
	if _, err := mail.ParseAddress(c.From); err != nil {
		wrong = append(wrong, fmt.Errorf("from: %q is not an address", c.From))
	}
	switch c.TLS {
	case "", TLSStart, TLSImplicit, TLSNone:
	default:
		wrong = append(wrong, fmt.Errorf("tls: %q is none of starttls, tls, none", c.TLS))
	}
	if c.Port < 0 || c.Port > 65535 {
		wrong = append(wrong, fmt.Errorf("port: %d is no port", c.Port))
	}
	if c.Password != "" && c.Username == "" {
		wrong = append(wrong, errors.New("username: is missing, and there is a password"))
	}
	if c.Username != "" && c.TLS == TLSNone {
		wrong = append(wrong, errors.New("tls: is none, and a password would cross the network as it is"))
	}
	if c.Timeout < 0 {
		wrong = append(wrong, errors.New("timeout: is negative"))
	}
	return wrong
}

// New makes a Sender. It reads the certificates and connects to nothing.
func New(cfg Config) (*Sender, error) {
	if cfg.Host == "" {
		return nil, errors.New("mail: no server")
	}
	if err := errors.Join(cfg.Validate()...); err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 15 * time.Second
	}
	s := &Sender{cfg: cfg}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("mail: read certificates: %w", err)
		}
		s.roots = x509.NewCertPool()
		if !s.roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("mail: %s holds no certificate", cfg.CAFile)
		}
	}
	return s, nil
}

// Send hands one mail to the server, and returns when the server has taken it.
func (s *Sender) Send(ctx context.Context, m Message) error {
	msg := gomail.NewMsg()
	if err := msg.From(s.cfg.From); err != nil {
		return fmt.Errorf("sender: %w", err)
	}
	if strings.ContainsAny(m.To, "\r\n") || strings.ContainsAny(m.Subject, "\r\n") {
		return errors.New("an address or a subject has more than one line")
	}
	if err := msg.To(m.To); err != nil {
		return fmt.Errorf("recipient: %w", err)
	}
	msg.Subject(m.Subject)
	msg.SetDate()
	msg.SetMessageID()
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no answers by machines
	msg.SetBodyString(gomail.TypeTextPlain, m.Text)
	client, err := gomail.NewClient(s.cfg.Host, s.options()...)
	if err != nil {
		return fmt.Errorf("set up mail: %w", err)
	}
	if err := client.DialAndSendWithContext(ctx, msg); err != nil {
		return fmt.Errorf("send mail through %s: %w", s.cfg.Host, err)
	}
	return nil
}

func (s *Sender) options() []gomail.Option {
	opts := []gomail.Option{gomail.WithTimeout(s.cfg.Timeout),
		gomail.WithTLSConfig(&tls.Config{ServerName: s.cfg.Host, RootCAs: s.roots, MinVersion: tls.VersionTLS12})}
	port := s.cfg.Port
	switch s.cfg.TLS {
	case TLSImplicit:
		opts = append(opts, gomail.WithSSL())
		if port == 0 {
			port = 465
		}
	case TLSNone:
		opts = append(opts, gomail.WithTLSPolicy(gomail.NoTLS))
		if port == 0 {
			port = 25
		}
	default:
		opts = append(opts, gomail.WithTLSPolicy(gomail.TLSMandatory))
		if port == 0 {
			port = 587
		}
	}
	opts = append(opts, gomail.WithPort(port))
	if s.cfg.HELO != "" {
		opts = append(opts, gomail.WithHELO(s.cfg.HELO))
	}
	if s.cfg.Username != "" {
		opts = append(opts, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(s.cfg.Username), gomail.WithPassword(s.cfg.Password))
	}
	return opts
}
