package service

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/platform/audit"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/mail"
)

// ResetPath is the page that a link to reset a password leads to.
const ResetPath = "/auth/password/reset"

const (
	// postEvery is how often requests are looked for that another process left, or that have to be tried again.
	postEvery = 5 * time.Second
	// postTries is how often a mail is tried, and postPause how long the first pause between two tries is; each further one is twice as long.
	postTries = 6
	postPause = 30 * time.Second
	// postTimeout bounds the sending of one mail.
	postTimeout = 30 * time.Second
	postBatch   = 10
)

// RequestReset asks for a mail with a link to reset the password of whoever has the address. It does the same for every address, known or not, and
// gives the same answer: it writes the wish down, and who has the address is looked up later by somebody else.
func (s *Service) RequestReset(ctx context.Context, email string, from Client) error {
	if s.Mail == nil {
		return auth.ErrMailOff
	}
	attempt, err := s.resets.Begin(ctx, email, from.Addr, func(context.Context) (bool, error) { return false, nil })
	if err != nil {
		return err
	}
	if err := attempt.Fail(ctx); err != nil { // every wish counts
		return err
	}
	if !utf8.ValidString(email) || strings.ContainsRune(email, 0) {
		return nil // nobody has it
	}
	id, err := newID()
	if err != nil {
		return err
	}
	if err := s.Store.InsertResetRequest(ctx, store.ResetRequest{ID: id, Email: email, IP: from.ip()}, s.now()); err != nil {
		return err
	}
	s.postman.Kick()
	return nil
}

// sendLinks sends the mails that were asked for. Several processes share the work: a request belongs to whoever took it for as long as a try may
// take. One that dies right after sending leaves the request, and a second mail follows, whose link replaces the first one.
func (s *Service) sendLinks(ctx context.Context) {
	for ctx.Err() == nil {
		now := s.now()
		requests, err := s.Store.TakeResetRequests(ctx, now, now.Add(postBatch*postTimeout), postBatch)
		if err != nil {
			if ctx.Err() == nil {
				s.Log.WarnContext(ctx, "requests for links could not be read; it will be tried again", "error", err)
			}
			return
		}
		if len(requests) == 0 {
			return
		}
		for _, r := range requests {
			s.dealWith(ctx, r)
		}
	}
}

// dealWith sends the mail of one request, if anybody has the address, and removes the request, or has it tried again.
func (s *Service) dealWith(ctx context.Context, r store.ResetRequest) {
	err := s.sendLink(ctx, r)
	switch {
	case ctx.Err() != nil:
		return // the module stops; the request waits for the next start
	case err != nil && r.Tries < postTries:
		s.Metrics.mails.WithLabelValues("failed").Inc()
		s.Log.WarnContext(ctx, "a mail with a link could not be sent; it will be tried again", "error", err, "try", r.Tries)
		if err := s.Store.PostponeResetRequest(ctx, r.ID, s.now().Add(postPause<<(r.Tries-1))); err != nil && ctx.Err() == nil {
			s.Log.WarnContext(ctx, "a request for a link could not be put off", "error", err)
		}
		return
	case err != nil:
		s.Metrics.mails.WithLabelValues("given_up").Inc()
		s.Log.ErrorContext(ctx, "a mail with a link could not be sent; it was tried often enough", "error", err, "tries", r.Tries)
	}
	if err := s.Store.DeleteResetRequest(ctx, r.ID); err != nil && ctx.Err() == nil {
		s.Log.WarnContext(ctx, "a request for a link that was dealt with could not be removed; its mail may come twice", "error", err)
	}
}

// sendLink sends a link to who has the address. Nobody gets one who could not log in with a password.
func (s *Service) sendLink(ctx context.Context, r store.ResetRequest) error {
	account, err := s.Store.AccountByEmail(ctx, r.Email)
	if errors.Is(err, auth.ErrUserNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if account.Kind != auth.KindHuman || account.Disabled || account.TenantDisabled {
		return nil
	}
	link, err := s.newLink(ctx, s.Store.InTx, account.User)
	if err != nil {
		return err
	}
	sending, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	err = s.Mail.Send(sending, mail.Message{To: account.Email, Subject: "Reset your password", Text: resetText(account.User, link, s.cfg.ResetTTL, r.IP)})
	if err != nil {
		return fmt.Errorf("send mail: %w", err)
	}
	s.Metrics.mails.WithLabelValues("sent").Inc()
	s.Log.InfoContext(ctx, "a link to reset a password was mailed", "user_id", account.ID, "asked_from", r.IP)
	return nil
}

func resetText(u auth.User, link Link, ttl time.Duration, ip string) string {
	return fmt.Sprintf("Somebody, from %s, asked to reset the password of the account %s.\n\nIf that was you, choose a new password here:\n\n  %s\n\n"+
		"or give this token to 'novacron password reset', which asks for it:\n\n  %s\n\nThis works once, within %s. All open sessions of the account end with it, and a second factor is asked for as before.\n\n"+
		"If it was not you, do nothing: the password stays as it is.\n", ip, u.Username, link.URL, link.Token, ttl)
}

// Link is a link to reset a password, to be shown this one time.
type Link struct {
	Token     string
	URL       string // without PublicURL the path alone
	ExpiresAt time.Time
}

// newLink makes a link for a user. Every other one of theirs ends.
func (s *Service) newLink(ctx context.Context, inTx func(context.Context, func(store.Queries) error) error, u auth.User) (Link, error) {
	text, hash := newSecretToken("ncp_")
	link := Link{Token: text, URL: strings.TrimRight(s.cfg.PublicURL, "/") + ResetPath + "?token=" + url.QueryEscape(text), ExpiresAt: s.now().Add(s.cfg.ResetTTL)}
	err := inTx(ctx, func(tx store.Queries) error {
		held, err := tx.LockAccount(ctx, u.ID, nil)
		if err != nil {
			return err
		}
		return tx.ReplaceReset(ctx, hash, store.Reset{UserID: u.ID, PasswordChangedAt: held.PasswordChangedAt, ExpiresAt: link.ExpiresAt})
	})
	return link, err
}

// CreateResetLink makes a link with which another user can set a password, to be handed to them. Nobody makes one for who holds more than
// themselves.
func (s *Service) CreateResetLink(ctx context.Context, p identity.Principal, id uuid.UUID) (Link, error) {
	target, err := s.Store.User(ctx, id, reachOf(p, userWrite))
	switch {
	case err != nil:
		return Link{}, err
	case id == p.UserID:
		return Link{}, auth.ErrOwnPassword
	case target.Kind == auth.KindService:
		return Link{}, auth.ErrServiceAccount
	}
	link, err := s.newLink(ctx, func(ctx context.Context, fn func(store.Queries) error) error {
		return s.Store.InTx(ctx, func(tx store.Queries) error {
			held, err := tx.LockAccount(ctx, id, reachOf(p, userWrite))
			if err != nil {
				return err
			}
			if err := s.mayActOn(ctx, tx, p, held.User); err != nil {
				return err
			}
			return fn(tx)
		})
	}, target)
	if err != nil {
		return Link{}, err
	}
	s.Log.InfoContext(ctx, "a link to reset a password was made", "user_id", id, "by", p.UserID)
	return link, nil
}

// UseResetLink sets the password of the user that a link belongs to. The link is used up, and every session of the user ends; nobody is logged in,
// so a second factor is asked for as before.
func (s *Service) UseResetLink(ctx context.Context, text, next string, from Client) error {
	err := s.useResetLink(ctx, text, next, from)
	s.Metrics.links.WithLabelValues(result(err)).Inc()
	return err
}

func (s *Service) useResetLink(ctx context.Context, text, next string, from Client) error {
	hash := tokenHash(text)
	attempt, err := s.resets.Begin(ctx, "link "+text, from.Addr, func(context.Context) (bool, error) { return true, nil })
	if err != nil {
		return err
	}
	known, user, err := s.liveLink(ctx, s.Store.Queries, hash)
	if errors.Is(err, auth.ErrResetToken) {
		if err := attempt.Fail(ctx); err != nil {
			return err
		}
		return auth.ErrResetToken
	}
	if err != nil {
		return err
	}
	audit.Actor(ctx, user.ID, user.Username, user.TenantID)
	if err := attempt.Succeed(ctx); err != nil { // whoever knows the link guesses nothing
		return err
	}
	if err := acceptable(next, user, "new_password"); err != nil {
		return err // and the link goes on working
	}
	passwordHash, err := s.hash(ctx, next)
	if err != nil {
		return err
	}
	err = s.changing(ctx, newPassword(user), func(tx store.Queries) error {
		held, err := tx.LockAccount(ctx, known.UserID, nil)
		if err != nil {
			return as(err, auth.ErrUserNotFound, auth.ErrResetToken)
		}
		if _, err := tx.LockReset(ctx, hash); err != nil { // another was faster
			return err
		}
		if !held.PasswordChangedAt.Equal(known.PasswordChangedAt) || held.Disabled {
			return auth.ErrResetToken
		}
		if err := tx.ClearResets(ctx, known.UserID); err != nil {
			return err
		}
		return replacePassword(ctx, tx, s, known.UserID, passwordHash, nil, nil)
	})
	if err != nil {
		return err
	}
	s.Log.InfoContext(ctx, "a password was reset with a link", "user_id", user.ID, "ip", from.ip())
	s.passwordChanged(ctx)
	return nil
}

// liveLink gives a link that works now and the user that it belongs to, or ErrResetToken.
func (s *Service) liveLink(ctx context.Context, q store.Queries, hash []byte) (store.Reset, auth.User, error) {
	known, err := q.Reset(ctx, hash)
	if err != nil {
		return store.Reset{}, auth.User{}, err
	}
	user, err := q.User(ctx, known.UserID, nil)
	if err != nil {
		return store.Reset{}, auth.User{}, as(err, auth.ErrUserNotFound, auth.ErrResetToken)
	}
	if s.Now().After(known.ExpiresAt) || !user.PasswordChangedAt.Equal(known.PasswordChangedAt) || user.Disabled {
		return store.Reset{}, auth.User{}, auth.ErrResetToken
	}
	return known, user, nil
}
