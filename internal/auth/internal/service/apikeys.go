package service

import (
	"context"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/apikey"
	"github.com/novacron/novacron/internal/auth/internal/store"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/httpx"
	"github.com/novacron/novacron/internal/platform/identity"
)

// Who may do what with API keys. Everyone with PermAPIKey… manages their own; those of others also take user:…, as accounts do.
const (
	PermAPIKeyRead  = "api-key:read"
	PermAPIKeyWrite = "api-key:write"
)

const (
	maxKeysPerUser = 100
	maxOldSecrets  = 5
)

// byLogin fails with ErrLoginNeeded where the caller uses an API key: what concerns logins is for those who have logged in.
func byLogin(p identity.Principal) error {
	if p.APIKeyID != uuid.Nil {
		return auth.ErrLoginNeeded
	}
	return nil
}

// CreateAPIKey makes an API key for the actor or for another account that the actor may administer.
func (s *Service) CreateAPIKey(ctx context.Context, req auth.CreateAPIKeyRequest) (auth.CreateAPIKeyResponse, error) {
	p := req.Actor
	if err := need(p, PermAPIKeyWrite); err != nil {
		return auth.CreateAPIKeyResponse{}, err
	}
	if req.UserID == uuid.Nil {
		req.UserID = p.UserID
	}
	if req.Scope == "" { // a key gets to reach every tenant from who does so already
		req.Scope = identity.ScopeTenant
		if reachesAll(p) {
			req.Scope = identity.ScopePlatform
		}
	}
	k := auth.APIKey{UserID: req.UserID, Name: strings.TrimSpace(req.Name), Permissions: req.Permissions, Scope: req.Scope, ExpiresAt: micros(req.ExpiresAt)}
	if err := s.checkSpec(k, true); err != nil {
		return auth.CreateAPIKeyResponse{}, err
	}
	var err error
	if k.Permissions, err = s.checkPermissions(ctx, k.Permissions); err != nil {
		return auth.CreateAPIKeyResponse{}, err
	}
	if k.ID, err = newID(); err != nil {
		return auth.CreateAPIKeyResponse{}, err
	}
	key := apikey.New()
	err = s.changing(ctx, keyEvent(event.AuthAPIKeyCreated, &k), func(tx store.Queries) error {
		owner, err := tx.LockAccount(ctx, k.UserID, nil)
		if err != nil {
			return err
		}
		if err := s.mayChangeKeysOf(ctx, tx, p, owner.User); err != nil {
			return err
		}
		if err := mayBound(p, k.Permissions, k.Scope); err != nil {
			return err
		}
		if err := s.withinUsed(ctx, tx, p, k, true); err != nil {
			return err
		}
		n, err := tx.CountAPIKeys(ctx, k.UserID)
		if err != nil {
			return err
		}
		if n >= maxKeysPerUser {
			return auth.ErrTooManyAPIKeys
		}
		err = tx.InsertAPIKey(ctx, store.NewAPIKey{
			ID: k.ID, UserID: k.UserID, CreatedBy: p.UserID, Name: k.Name, Prefix: key.Prefix, Hash: apikey.HashOf(key.Text),
			Permissions: k.Permissions, Scope: k.Scope, ExpiresAt: k.ExpiresAt, Now: s.now(),
		})
		if err != nil {
			return err
		}
		k, err = tx.APIKey(ctx, k.ID, store.AnyAPIKey())
		return err
	})
	if err != nil {
		return auth.CreateAPIKeyResponse{}, err
	}
	s.tellKey(ctx, event.AuthAPIKeyCreated, k)
	return auth.CreateAPIKeyResponse{APIKey: s.shown(k), Secret: key.Text}, nil
}

// APIKeyFilter says which keys a list shows.
type APIKeyFilter struct {
	Tenant TenantFilter
	UserID uuid.UUID // nil: everyone whose keys the caller may see
	Prefix string    // empty: any
}

// APIKeys lists keys: the caller's own, and those of others where the caller may see accounts.
func (s *Service) APIKeys(ctx context.Context, p identity.Principal, f APIKeyFilter, after *store.After, limit int) ([]auth.APIKey, error) {
	tenant, err := f.Tenant.reach(p, userRead)
	if err != nil {
		return nil, err
	}
	reach, owner := store.APIKeyReach{Me: p.UserID, Others: p.Allows(userRead), Tenant: tenant}, &f.UserID
	if f.UserID == uuid.Nil {
		owner = nil
	}
	list, err := s.Store.APIKeys(ctx, reach, owner, f.Prefix, after, limit)
	for i := range list {
		list[i] = s.shown(list[i])
	}
	return list, err
}

// APIKey gives one key.
func (s *Service) APIKey(ctx context.Context, p identity.Principal, id uuid.UUID) (auth.APIKey, error) {
	k, err := s.Store.APIKey(ctx, id, keysSeen(p))
	return s.shown(k), err
}

// APIKeyChange says what to change of a key; nil leaves a part as it is.
type APIKeyChange struct {
	Name        *string
	Permissions []string
	Scope       *identity.Scope
	ExpiresAt   *time.Time
	Version     *int64 // fail with ErrVersion unless the key has this version
}

// UpdateAPIKey changes name, bounds or expiry of a key. Its secret stays.
func (s *Service) UpdateAPIKey(ctx context.Context, p identity.Principal, id uuid.UUID, c APIKeyChange) (auth.APIKey, error) {
	var err error
	if c.Permissions, err = s.checkPermissions(ctx, c.Permissions); err != nil {
		return auth.APIKey{}, err
	}
	var updated auth.APIKey
	err = s.changeKey(ctx, p, id, c.Version, keyEvent(event.AuthAPIKeyUpdated, &updated), func(tx store.Queries, held store.HeldAPIKey) error {
		k := held.APIKey
		if c.Name != nil {
			k.Name = strings.TrimSpace(*c.Name)
		}
		if c.Permissions != nil {
			k.Permissions = c.Permissions
		}
		if c.Scope != nil {
			k.Scope = *c.Scope
		}
		if c.ExpiresAt != nil {
			k.ExpiresAt = micros(c.ExpiresAt)
		}
		if err := s.checkSpec(k, c.ExpiresAt != nil); err != nil {
			return err
		}
		if c.Permissions != nil || c.Scope != nil {
			if err := mayBound(p, k.Permissions, k.Scope); err != nil {
				return err
			}
		}
		if err := s.withinUsed(ctx, tx, p, k, c.ExpiresAt != nil); err != nil {
			return err
		}
		if err := tx.UpdateAPIKey(ctx, k, s.now()); err != nil {
			return err
		}
		var err error
		updated, err = tx.APIKey(ctx, id, store.AnyAPIKey())
		return err
	})
	if err != nil {
		return auth.APIKey{}, err
	}
	s.tellKey(ctx, event.AuthAPIKeyUpdated, updated)
	return s.shown(updated), nil
}

// Rotation says how to rotate a key.
type Rotation struct {
	Overlap   time.Duration // for which the old secret goes on; 0 ends it, and all before it, at once
	ExpiresAt *time.Time    // of the key from now on; nil leaves it
	Version   *int64        // fail with ErrVersion unless the key has this version
}

// RotateAPIKey gives a key a new secret. Secrets that earlier rotations replaced go on until the time that they were given then, so a rotation
// that is repeated because its answer was lost takes nobody's secret away.
func (s *Service) RotateAPIKey(ctx context.Context, p identity.Principal, id uuid.UUID, r Rotation) (auth.CreateAPIKeyResponse, error) {
	if r.Overlap < 0 || r.Overlap > auth.MaxAPIKeyOverlap {
		return auth.CreateAPIKeyResponse{}, badSpec("overlap_seconds", "must be 0 to 2592000, which is 30 days")
	}
	var rotated auth.APIKey
	var key apikey.Key
	err := s.changeKey(ctx, p, id, r.Version, keyEvent(event.AuthAPIKeyRotated, &rotated), func(tx store.Queries, held store.HeldAPIKey) error {
		now := s.now()
		if r.ExpiresAt != nil {
			held.ExpiresAt = micros(r.ExpiresAt)
		}
		if held.ExpiresAt != nil && !held.ExpiresAt.After(now) {
			return badSpec("expires_at", "must be in the future; the key has expired, and its new secret would not work")
		}
		if err := s.withinUsed(ctx, tx, p, held.APIKey, true); err != nil {
			return err
		}
		var until *time.Time
		if r.Overlap > 0 {
			end := now.Add(r.Overlap)
			until = &end
		}
		key = apikey.Renew(held.Prefix)
		n, err := tx.RotateAPIKey(ctx, held, apikey.HashOf(key.Text), until, now)
		if err != nil {
			return err
		}
		if n > maxOldSecrets {
			return auth.ErrTooManySecrets
		}
		rotated, err = tx.APIKey(ctx, id, store.AnyAPIKey())
		return err
	})
	if err != nil {
		return auth.CreateAPIKeyResponse{}, err
	}
	s.tellKey(ctx, event.AuthAPIKeyRotated, rotated)
	return auth.CreateAPIKeyResponse{APIKey: s.shown(rotated), Secret: key.Text}, nil
}

// RevokeAPIKey ends a key, with all its secrets.
func (s *Service) RevokeAPIKey(ctx context.Context, p identity.Principal, id uuid.UUID) error {
	var gone auth.APIKey
	err := s.changeKey(ctx, p, id, nil, keyEvent(event.AuthAPIKeyRevoked, &gone), func(tx store.Queries, held store.HeldAPIKey) error {
		gone = held.APIKey
		if err := tx.DeleteBindingsOf(ctx, auth.PrincipalAPIKey, id); err != nil {
			return err
		}
		return tx.RevokeAPIKey(ctx, id, s.now())
	})
	if err != nil {
		return err
	}
	s.tellKey(ctx, event.AuthAPIKeyRevoked, gone)
	return nil
}

// changeKey runs change in a transaction that holds the key and its owner, once it is clear that the caller may change keys like it.
func (s *Service) changeKey(ctx context.Context, p identity.Principal, id uuid.UUID, version *int64,
	telling func() []event.Auth, change func(store.Queries, store.HeldAPIKey) error,
) error {
	if err := need(p, PermAPIKeyWrite); err != nil {
		return err
	}
	return s.changing(ctx, telling, func(tx store.Queries) error {
		seen, err := tx.APIKey(ctx, id, keysSeen(p))
		if err != nil {
			return err
		}
		// The owner first, as everything else that locks accounts does.
		owner, err := tx.LockAccount(ctx, seen.UserID, nil)
		if err != nil {
			return as(err, auth.ErrUserNotFound, auth.ErrAPIKeyNotFound)
		}
		held, err := tx.LockAPIKey(ctx, id, keysSeen(p))
		if err != nil {
			return err
		}
		if err := s.mayChangeKeysOf(ctx, tx, p, owner.User); err != nil {
			return err
		}
		if err := s.withinUsed(ctx, tx, p, held.APIKey, false); err != nil {
			return err
		}
		if version != nil && *version != held.Version {
			return auth.ErrVersion
		}
		return change(tx, held)
	})
}

// mayChangeKeysOf fails unless the caller may administer keys of the account: it is their own, or they may change accounts there and hold all that it
// does, everywhere.
func (s *Service) mayChangeKeysOf(ctx context.Context, q store.Queries, p identity.Principal, owner auth.User) error {
	if owner.ID == p.UserID {
		return nil // a key of theirs may hold less; see withinUsed
	}
	in := func(permission string) bool { return p.AllowsOn(permission, owner.TenantID, owner.ID) }
	if !in(userRead) && !in(userWrite) {
		return auth.ErrUserNotFound
	}
	if !in(userWrite) {
		return httpx.Missing(userWrite)
	}
	return s.mayActOn(ctx, q, p, owner)
}

// withinUsed fails with ErrGrantExceedsOwn where the caller uses a key, and another key of theirs could do more than it, reach farther or, where
// it lasts, go on for longer, now or after what its owner holds has changed: a key could free itself of its bounds otherwise. Bounds are compared,
// and not what they amount to, so the owner's roles do not matter.
func (s *Service) withinUsed(ctx context.Context, q store.Queries, p identity.Principal, k auth.APIKey, lasts bool) error {
	if p.APIKeyID == uuid.Nil {
		return nil
	}
	used, err := q.APIKey(ctx, p.APIKeyID, store.AnyAPIKey())
	if err != nil {
		return as(err, auth.ErrAPIKeyNotFound, auth.ErrAPIKeyRevoked)
	}
	exceeds := func(format string, args ...any) error { return auth.ErrGrantExceedsOwn.WithMessage(format, args...) }
	if lasts && used.ExpiresAt != nil && (k.ExpiresAt == nil || k.ExpiresAt.After(*used.ExpiresAt)) {
		return exceeds("the key that you use ends at %s, and what it makes cannot go on for longer", used.ExpiresAt.Format(time.RFC3339))
	}
	if used.Scope != identity.ScopePlatform && k.Scope == identity.ScopePlatform {
		return exceeds("the key reaches every tenant, and the one that you use does not")
	}
	if used.Permissions == nil || k.UserID != used.UserID { // others' keys were compared with all that their owners hold
		return nil
	}
	if k.Permissions == nil {
		return exceeds("the key may do all that its owner may, and the one that you use may not")
	}
	if missing := identity.Uncovered(used.Permissions, k.Permissions); missing != "" {
		return auth.ErrGrantExceedsOwn.WithMessage("the key holds %s, which the one that you use lacks", missing).WithMeta("permission", missing)
	}
	if k.ID == used.ID {
		return nil
	}
	bound, err := q.APIKeyBound(ctx, k.ID)
	if err == nil && bound {
		return exceeds("roles are bound to the key, which the one that you use may lack")
	}
	return err
}

// checkSpec fails with ErrInvalidAPIKeySpec on a key that cannot be. Over the REST API most of this is checked before.
func (s *Service) checkSpec(k auth.APIKey, checkExpiry bool) error {
	switch {
	case k.Name == "" || utf8.RuneCountInString(k.Name) > auth.MaxAPIKeyName || !utf8.ValidString(k.Name):
		return badSpec("name", "must be 1 to 255 characters, and not of blanks alone")
	case strings.ContainsFunc(k.Name, unicode.IsControl):
		return badSpec("name", "must not hold control characters")
	case len(k.Permissions) > auth.MaxAPIKeyPermissions:
		return badSpec("permissions", "must be 200 at most; left out, the key may do what its owner may")
	case k.Scope != identity.ScopeTenant && k.Scope != identity.ScopePlatform:
		return badSpec("scope", "must be tenant or platform")
	case checkExpiry && k.ExpiresAt != nil && !k.ExpiresAt.After(s.now()):
		return badSpec("expires_at", "must be in the future")
	}
	return nil
}

func badSpec(field, complaint string) *errs.Error {
	return auth.ErrInvalidAPIKeySpec.WithMessage("%s %s", field, complaint).WithField("body."+field, complaint, "")
}

// need fails where the caller lacks a permission.
func need(p identity.Principal, permission string) error {
	if p.Allows(permission) {
		return nil
	}
	return httpx.Missing(permission)
}

// reachesAll tells whether some of what the caller may do reaches every tenant.
func reachesAll(p identity.Principal) bool {
	return p.Scope == identity.ScopePlatform || len(p.Platform) > 0
}

// mayBound fails with ErrGrantExceedsOwn where the bounds of a key go beyond what the caller holds, even if its owner holds as little: the owner may
// get more one day.
func mayBound(p identity.Principal, permissions []string, scope identity.Scope) error {
	if scope == identity.ScopePlatform && !reachesAll(p) {
		return auth.ErrGrantExceedsOwn.WithMessage("the API key would reach every tenant and you do not")
	}
	for _, permission := range permissions {
		if !p.Allows(permission) {
			return exceeds(permission, "")
		}
	}
	return nil
}

// keysSeen tells whose keys a caller sees.
func keysSeen(p identity.Principal) store.APIKeyReach {
	return store.APIKeyReach{Me: p.UserID, Others: p.Allows(userRead), Tenant: reachOf(p, userRead)}
}

// shown leaves out what is over.
func (s *Service) shown(k auth.APIKey) auth.APIKey {
	if k.OldSecretsUntil != nil && !k.OldSecretsUntil.After(s.now()) {
		k.OldSecretsUntil = nil
	}
	return k
}

// keyEvent is what tells of a change of a key.
func keyEvent(kind string, k *auth.APIKey) func() []event.Auth {
	return func() []event.Auth {
		return one(event.Auth{Type: kind, TenantID: k.TenantID, UserID: k.UserID, APIKeyID: k.ID})
	}
}

// tellKey counts and logs it.
func (s *Service) tellKey(ctx context.Context, kind string, k auth.APIKey) {
	s.Metrics.keyChanges.WithLabelValues(kind).Inc()
	s.Log.InfoContext(ctx, "an API key changed", "type", kind, "api_key_id", k.ID, "prefix", k.Prefix, "user_id", k.UserID, "tenant_id", k.TenantID)
}

// micros gives the time as PostgreSQL keeps it.
func micros(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	cut := t.UTC().Truncate(time.Microsecond)
	return &cut
}
