package service

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

// parsePublicKey reads one line as in authorized_keys, and says in words why it is none.
func parsePublicKey(text string) (ssh.PublicKey, string) {
	switch {
	case strings.ContainsAny(text, "\r\n"):
		return nil, "must be one line"
	case strings.Contains(text, "PRIVATE KEY"):
		return nil, "is a private key; give the public one, most often the file that ends in .pub"
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text))
	switch {
	case err != nil:
		return nil, "is no public key as in authorized_keys: type, base64 and perhaps a comment"
	case key.Type() == ssh.InsecureKeyAlgoDSA: //nolint:staticcheck // it is named to be refused
		return nil, "is a DSA key, which OpenSSH no longer takes"
	}
	if _, ok := key.(*ssh.Certificate); ok {
		return nil, "is a certificate; give the public key itself"
	}
	return key, ""
}

// CreateSSHKey keeps a public key.
func (s *Service) CreateSSHKey(ctx context.Context, name, publicKey string) (vm.SSHKey, error) {
	if err := checkName(name, func(field, why, value string) error { return vm.ErrSSHKeyInvalid.WithField(field, why, value) }); err != nil {
		return vm.SSHKey{}, err
	}
	publicKey = strings.TrimSpace(publicKey)
	key, why := parsePublicKey(publicKey)
	if why != "" {
		return vm.SSHKey{}, vm.ErrSSHKeyInvalid.WithField("body.public_key", why, "")
	}
	id, err := uuid.NewV7()
	if err != nil {
		return vm.SSHKey{}, fmt.Errorf("make id: %w", err)
	}
	p := caller(ctx)
	return s.store.CreateSSHKey(ctx, vm.SSHKey{ID: id, TenantID: p.TenantID, OwnerID: p.UserID, Name: name, PublicKey: publicKey, Type: key.Type(),
		Fingerprint: ssh.FingerprintSHA256(key)})
}

// GetSSHKey reads an SSH key that the caller may know.
func (s *Service) GetSSHKey(ctx context.Context, id uuid.UUID) (vm.SSHKey, error) {
	k, err := s.store.GetSSHKey(ctx, id)
	if err == nil && !readable(ctx, k.TenantID, k.OwnerID, "ssh-key:read") {
		return vm.SSHKey{}, vm.ErrSSHKeyNotFound
	}
	return k, err
}

// ListSSHKeys lists the SSH keys of the caller's tenant, newest first.
func (s *Service) ListSSHKeys(ctx context.Context, name, fingerprint string, after *httpx.Cursor, limit int) ([]vm.SSHKey, error) {
	p := caller(ctx)
	f := store.SSHKeyFilter{TenantID: p.TenantID, OwnerID: p.OwnerFilter("ssh-key:read"), Name: name, Fingerprint: fingerprint, Limit: limit}
	f.Before, f.BeforeID = position(after)
	return s.store.ListSSHKeys(ctx, f)
}

// DeleteSSHKey removes an SSH key; seen is the version that the caller has seen, nil any. Guests that were made with it keep their copy.
func (s *Service) DeleteSSHKey(ctx context.Context, id uuid.UUID, seen *int64) error {
	k, err := s.store.GetSSHKey(ctx, id)
	if err == nil {
		err = permitted(ctx, k.TenantID, k.OwnerID, "ssh-key:delete", "ssh-key:read", vm.ErrSSHKeyNotFound)
	}
	if err != nil {
		return err
	}
	if seen != nil && *seen != vm.SSHKeyVersion {
		return vm.ErrSSHKeyVersion
	}
	return s.store.DeleteSSHKey(ctx, id)
}

// publicKeys makes the lines for a guest of what a request names: public keys, and names and ids of SSH keys of the caller's tenant. A key has a
// blank in it, which neither a name nor an id has.
func (s *Service) publicKeys(ctx context.Context, wanted []string, field string, invalid *errs.Error) ([]string, error) {
	lines := make([]string, len(wanted))
	for i, text := range wanted {
		at := fmt.Sprintf("%s[%d]", field, i)
		if text = strings.TrimSpace(text); strings.ContainsAny(text, " \t\r\n") {
			if _, why := parsePublicKey(text); why != "" {
				return nil, invalid.WithField(at, why, "")
			}
			lines[i] = text
			continue
		}
		k, err := s.sshKeyNamed(ctx, text)
		if errors.Is(err, vm.ErrSSHKeyNotFound) {
			return nil, invalid.WithField(at, "is neither a public key nor the name or id of an SSH key; GET /api/v1/ssh-keys lists them", text)
		}
		if err != nil {
			return nil, err
		}
		lines[i] = k.PublicKey
	}
	return lines, nil
}

func (s *Service) sshKeyNamed(ctx context.Context, text string) (vm.SSHKey, error) {
	p := caller(ctx)
	var k vm.SSHKey
	id, err := uuid.Parse(text)
	if err == nil {
		k, err = s.store.GetSSHKey(ctx, id)
	} else {
		k, err = s.store.SSHKeyNamed(ctx, p.TenantID, text)
	}
	if err == nil && (k.TenantID != p.TenantID || !p.AllowsOn("ssh-key:read", k.TenantID, k.OwnerID)) {
		err = vm.ErrSSHKeyNotFound
	}
	return k, err
}
