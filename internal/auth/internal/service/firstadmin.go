package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/password"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/platform/atomicfile"
)

const (
	defaultTenant = "default"
	firstAdmin    = "admin"
)

// EnsureAdmin makes the first tenant and its administrator where the installation has no user at all, and gives the password; else "".
//
// Of any number of processes that start at once, one makes them. The password is on disk before the account is committed, and a process
// that died in between left a file that the next one uses, so the file and the account always belong together.
func (s *Service) EnsureAdmin(ctx context.Context) (string, error) {
	var made string
	err := s.Store.InTx(ctx, func(tx store.Queries) error {
		made = ""
		if err := tx.LockBootstrap(ctx); err != nil {
			return err
		}
		n, err := tx.CountUsers(ctx)
		if err != nil || n > 0 {
			return err
		}
		plain, err := s.firstPassword()
		if err != nil {
			return err
		}
		if err := s.insertAdmin(ctx, tx, plain); err != nil {
			return err
		}
		made = plain
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("make the first administrator: %w", err)
	}
	if made == "" {
		return "", s.reconcilePasswordFile(ctx)
	}
	return made, nil
}

// firstPassword gives the password in the file, or makes one and writes the file.
func (s *Service) firstPassword() (string, error) {
	plain, err := readPassword(s.cfg.PasswordFile)
	if err != nil {
		return "", err
	}
	if plain == "" {
		plain = password.Generate()
	}
	return plain, atomicfile.Write(s.cfg.PasswordFile, []byte(plain+"\n"), 0o600)
}

func (s *Service) insertAdmin(ctx context.Context, tx store.Queries, plain string) error {
	hash, err := s.hash(ctx, plain)
	if err != nil {
		return err
	}
	tenantID, err := newID()
	if err != nil {
		return err
	}
	userID, err := newID()
	if err != nil {
		return err
	}
	now := s.now()
	if _, err := tx.InsertTenant(ctx, tenantID, defaultTenant, nil, now); err != nil {
		return err
	}
	_, err = tx.InsertUser(ctx, store.NewUser{
		ID: userID, Username: firstAdmin, PasswordHash: hash, Role: auth.RoleAdmin, TenantID: tenantID, Now: now,
	})
	return err
}

// reconcilePasswordFile removes the first administrator's password file once the password in it is not theirs any more.
func (s *Service) reconcilePasswordFile(ctx context.Context) error {
	plain, err := readPassword(s.cfg.PasswordFile)
	if err != nil || plain == "" {
		return err
	}
	account, err := s.Store.AccountByUsername(ctx, firstAdmin)
	if err != nil && !errors.Is(err, auth.ErrUserNotFound) {
		return err
	}
	match := false
	if err == nil {
		if match, _, err = s.check(ctx, plain, account.PasswordHash); err != nil {
			return err
		}
	}
	if match {
		return nil
	}
	return atomicfile.Remove(s.cfg.PasswordFile)
}

// readPassword gives the first line of a file; "" where there is none or what is in it cannot be a password of ours.
func readPassword(path string) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the first administrator's password: %w", err)
	}
	plain, _, _ := strings.Cut(string(text), "\n")
	if password.Complaint(plain, firstAdmin, "") != "" {
		return "", nil
	}
	return plain, nil
}
