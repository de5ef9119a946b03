package service

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/auth/internal/totp"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/audit"
	"github.com/novacron/novacron/internal/platform/identity"
)

const (
	// challengeTTL is how long a login waits for its second factor.
	challengeTTL = 5 * time.Minute
	// challengeTries is how many codes one login may try; whoever needs more proves the password again.
	challengeTries = 5
)

// errWrongCode says, within a transaction that it undoes, that a code is not right.
var errWrongCode = errors.New("the code is wrong or was used")

// newSecretToken makes a token of 256 random bits behind a mark, and the hash it is kept as.
func newSecretToken(mark string) (text string, hash []byte) {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails: crypto/rand ends the process first
	text = mark + base64.RawURLEncoding.EncodeToString(random)
	return text, tokenHash(text)
}

func tokenHash(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

// challenge notes that a password was right and a second factor is awaited.
func (s *Service) challenge(ctx context.Context, account store.Account) (Tokens, error) {
	text, hash := newSecretToken("ncm_")
	err := s.Store.InsertChallenge(ctx, hash, store.Challenge{
		UserID: account.ID, PasswordChangedAt: account.PasswordChangedAt, ExpiresAt: s.now().Add(challengeTTL),
	})
	audit.Detail(ctx, "second_factor", "asked for")
	return Tokens{Challenge: text, Methods: []string{MethodTOTP, MethodRecovery}, ExpiresIn: challengeTTL}, err
}

// LoginMFA goes on with a login that waits for its second factor: a code of the authenticator app, or a recovery code.
func (s *Service) LoginMFA(ctx context.Context, challenge, code string, from Client) (Tokens, error) {
	tokens, err := s.loginMFA(ctx, challenge, code, from)
	s.Metrics.loggedIn(err)
	return tokens, err
}

func (s *Service) loginMFA(ctx context.Context, text, code string, from Client) (Tokens, error) {
	hash := tokenHash(text)
	c, err := s.Store.Challenge(ctx, hash)
	if err != nil {
		return Tokens{}, err
	}
	user, err := s.Store.User(ctx, c.UserID, nil)
	if err != nil {
		return Tokens{}, as(err, auth.ErrUserNotFound, auth.ErrMFAToken)
	}
	audit.Actor(ctx, user.ID, user.Username, user.TenantID)
	account := store.Account{User: user}
	account.PasswordChangedAt = c.PasswordChangedAt // whoever has changed it since has ended the challenge
	var tokens Tokens
	var method string
	err = s.guessing(ctx, user.ID, from, auth.ErrMFACode, func() error {
		tokens, err = s.open(ctx, account, from, func(tx store.Queries) error {
			held, err := tx.LockChallenge(ctx, hash)
			if err != nil {
				return err
			}
			if held.Failures >= challengeTries || s.Now().After(held.ExpiresAt) {
				return auth.ErrMFAToken
			}
			if method, err = s.useCode(ctx, tx, user.ID, code); err != nil {
				return err
			}
			return tx.DeleteChallenge(ctx, hash)
		})
		if errors.Is(err, errWrongCode) {
			return errors.Join(err, s.Store.FailChallenge(ctx, hash))
		}
		return as(err, auth.ErrInvalidCredentials, auth.ErrMFAToken) // the account has changed since the password was right
	})
	if err != nil {
		return Tokens{}, err
	}
	audit.Detail(ctx, "method", method)
	s.usedCode(ctx, user.TenantID, user.ID, method, from)
	return tokens, nil
}

// useCode uses a code of a user up, in a transaction that holds their account, and tells of which kind it was. It fails with errWrongCode.
func (s *Service) useCode(ctx context.Context, tx store.Queries, userID uuid.UUID, code string) (method string, err error) {
	tidy := totp.Tidy(code)
	if !totp.IsCode(tidy) {
		used, err := tx.UseRecoveryCode(ctx, userID, totp.HashRecoveryCode(userID, tidy))
		if err == nil && !used {
			err = errWrongCode
		}
		return MethodRecovery, err
	}
	kept, err := tx.LockTOTP(ctx, userID)
	if err != nil {
		return "", err
	}
	if kept.Secret == nil {
		return "", errWrongCode
	}
	secret, err := s.unseal(kept.Secret, userID)
	if err != nil {
		return "", err
	}
	step, ok, err := totp.Match(secret, tidy, s.Now(), kept.LastStep)
	if err != nil {
		return "", err
	}
	if ok {
		ok, err = tx.UseTOTP(ctx, userID, step)
	}
	if err == nil && !ok {
		err = errWrongCode
	}
	return MethodTOTP, err
}

// usedCode tells of a recovery code that was used: it is rare, and perhaps not the user's doing.
func (s *Service) usedCode(ctx context.Context, tenantID, userID uuid.UUID, method string, from Client) {
	if method != MethodRecovery {
		return
	}
	s.Log.InfoContext(ctx, "a recovery code was used", "user_id", userID, "ip", from.ip())
	s.tell(ctx, event.Auth{Type: event.AuthRecoveryUsed, TenantID: tenantID, UserID: userID})
}

// guess is guessing with a transaction.
func (s *Service) guess(ctx context.Context, userID uuid.UUID, from Client, wrong error, try func(store.Queries) error) error {
	return s.guessing(ctx, userID, from, wrong, func() error { return s.Store.InTx(ctx, try) })
}

// guessing lets somebody try a code of a user, if they have not tried too many. Where try fails with errWrongCode that counts as a wrong one, and
// the answer is wrong.
func (s *Service) guessing(ctx context.Context, userID uuid.UUID, from Client, wrong error, try func() error) error {
	err := s.guarded(ctx, userID, from, wrong, try)
	s.Metrics.codes.WithLabelValues(result(err)).Inc()
	return err
}

func (s *Service) guarded(ctx context.Context, userID uuid.UUID, from Client, wrong error, try func() error) error {
	attempt, err := s.codes.Begin(ctx, userID.String(), from.Addr, func(ctx context.Context) (bool, error) {
		return s.Store.KnownAddressOf(ctx, userID, from.ip())
	})
	if err != nil {
		return err
	}
	switch err := try(); {
	case err == nil:
		return attempt.Succeed(ctx)
	case !errors.Is(err, errWrongCode):
		return err
	}
	if err := attempt.Fail(ctx); err != nil {
		return err
	}
	return wrong
}

// prove makes sure that the caller knows their password, or holds their second factor.
func (s *Service) prove(ctx context.Context, p identity.Principal, proof Proof, from Client) error {
	switch {
	case proof.Password != "":
		account, err := s.Store.AccountByUsername(ctx, p.Username)
		if err != nil {
			return err
		}
		return s.provePassword(ctx, account, proof.Password, from, "password")
	case proof.Code != "":
		var method string
		err := s.guess(ctx, p.UserID, from, auth.ErrWrongCode.WithField("body.code", "is wrong", ""), func(tx store.Queries) error {
			_, err := tx.LockAccount(ctx, p.UserID, nil)
			if err == nil {
				method, err = s.useCode(ctx, tx, p.UserID, proof.Code)
			}
			return err
		})
		if err == nil {
			s.usedCode(ctx, p.HomeID, p.UserID, method, from)
		}
		return err
	}
	return auth.ErrReauthenticate
}
