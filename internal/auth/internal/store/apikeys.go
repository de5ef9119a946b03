package store

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/auth/internal/apikey"
	"github.com/novacron/novacron/internal/auth/internal/authdb"
	"github.com/novacron/novacron/internal/platform/identity"
)

// NewAPIKey is what an API key is made of.
type NewAPIKey struct {
	ID, UserID, CreatedBy uuid.UUID
	Name, Prefix          string
	Hash                  apikey.Hash
	Permissions           []string // nil: no bound
	Scope                 identity.Scope
	ExpiresAt             *time.Time
	Now                   time.Time
}

// APIKeyReach says whose keys a caller sees: their own, and perhaps those of the users within reach.
type APIKeyReach struct {
	Me     uuid.UUID
	Others bool
	Tenant Reach
}

// AnyAPIKey reaches every key.
func AnyAPIKey() APIKeyReach { return APIKeyReach{Others: true} }

// HeldAPIKey is a key that the transaction has locked.
type HeldAPIKey struct {
	auth.APIKey
	Hash string
}

// APIKeySecret is one secret that a key has or had.
type APIKeySecret struct {
	Hash  apikey.Hash
	Until *time.Time // nil: as long as the key
}

// APIKeyHolder is what a validation needs to know of a key.
type APIKeyHolder struct {
	ID          uuid.UUID
	Owner       Holder
	Username    string // of the owner
	Secrets     []APIKeySecret
	Permissions []string // nil: no bound
	Scope       identity.Scope
	ExpiresAt   *time.Time
	Over        bool // revoked, or the owner or their tenant is out of use
}

// APIKeyUse is when and where from a key was used last.
type APIKeyUse struct {
	At   time.Time
	From netip.Addr
}

// InsertAPIKey keeps a key.
func (q Queries) InsertAPIKey(ctx context.Context, k NewAPIKey) error {
	bounds, err := encodePermissions(k.Permissions)
	if err != nil {
		return err
	}
	return mapErr("insert API key", q.q.APIKeyInsert(ctx, q.db, authdb.APIKeyInsertParams{
		ID: k.ID, Name: k.Name, KeyHash: hex.EncodeToString(k.Hash[:]), UserID: k.UserID, Permissions: bounds, ExpiresAt: k.ExpiresAt, Now: k.Now,
		Prefix: k.Prefix, Scope: string(k.Scope), CreatedBy: &k.CreatedBy,
	}), nil)
}

// APIKey gives a key within reach, or ErrAPIKeyNotFound.
func (q Queries) APIKey(ctx context.Context, id uuid.UUID, reach APIKeyReach) (auth.APIKey, error) {
	row, err := q.q.APIKeyGet(ctx, q.db, authdb.APIKeyGetParams{ID: id, Me: reach.Me, Others: reach.Others, Reach: reach.Tenant})
	if err != nil {
		return auth.APIKey{}, mapErr("read API key", err, auth.ErrAPIKeyNotFound)
	}
	return apiKey(authdb.APIKeyListRow(row))
}

// LockAPIKey gives a key within reach and holds it until the transaction ends.
func (q Queries) LockAPIKey(ctx context.Context, id uuid.UUID, reach APIKeyReach) (HeldAPIKey, error) {
	row, err := q.q.APIKeyGetForUpdate(ctx, q.db, authdb.APIKeyGetForUpdateParams{ID: id, Me: reach.Me, Others: reach.Others, Reach: reach.Tenant})
	if err != nil {
		return HeldAPIKey{}, mapErr("lock API key", err, auth.ErrAPIKeyNotFound)
	}
	k, err := apiKey(authdb.APIKeyListRow(row))
	return HeldAPIKey{APIKey: k, Hash: row.ApiKey.KeyHash}, err
}

// APIKeys lists keys within reach, newest first; those of one owner, or the one with a prefix, where these are given.
func (q Queries) APIKeys(ctx context.Context, reach APIKeyReach, owner *uuid.UUID, prefix string, after *After, limit int) ([]auth.APIKey, error) {
	t, id := after.split()
	rows, err := q.q.APIKeyList(ctx, q.db, authdb.APIKeyListParams{
		Me: reach.Me, Others: reach.Others, Reach: reach.Tenant, Owner: owner, Prefix: optional(prefix), AfterTime: t, AfterID: id, MaxRows: int32(limit),
	})
	if err != nil {
		return nil, mapErr("list API keys", err, nil)
	}
	list := make([]auth.APIKey, len(rows))
	for i, row := range rows {
		if list[i], err = apiKey(row); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// CountAPIKeys counts the keys of a user that were not revoked.
func (q Queries) CountAPIKeys(ctx context.Context, userID uuid.UUID) (int64, error) {
	n, err := q.q.APIKeyCount(ctx, q.db, userID)
	return n, mapErr("count API keys", err, nil)
}

// UpdateAPIKey writes name, bounds and expiry of a key that the transaction has locked.
func (q Queries) UpdateAPIKey(ctx context.Context, k auth.APIKey, now time.Time) error {
	bounds, err := encodePermissions(k.Permissions)
	if err != nil {
		return err
	}
	return mapErr("update API key", q.q.APIKeyUpdate(ctx, q.db, authdb.APIKeyUpdateParams{
		ID: k.ID, Name: k.Name, Permissions: bounds, Scope: string(k.Scope), ExpiresAt: k.ExpiresAt, Now: now,
	}), nil)
}

// RotateAPIKey gives a key that the transaction has locked a new secret. The old one goes on until the given time, and so do, as long as they
// were given before, those before it; nil ends them all now. It gives how many old secrets go on.
func (q Queries) RotateAPIKey(ctx context.Context, held HeldAPIKey, next apikey.Hash, until *time.Time, now time.Time) (int64, error) {
	const doing = "rotate API key"
	if err := q.q.OldSecretForget(ctx, q.db, authdb.OldSecretForgetParams{KeyID: held.ID, Now: now}); err != nil {
		return 0, mapErr(doing, err, nil)
	}
	ends, last := now, (*time.Time)(nil)
	if until != nil {
		ends, last = *until, until
		if old := held.OldSecretsUntil; old != nil && old.After(ends) {
			last = old
		}
	} else if err := q.q.OldSecretEnd(ctx, q.db, authdb.OldSecretEndParams{KeyID: held.ID, Now: now}); err != nil {
		return 0, mapErr(doing, err, nil)
	}
	err := q.q.OldSecretInsert(ctx, q.db, authdb.OldSecretInsertParams{KeyHash: held.Hash, KeyID: held.ID, ExpiresAt: ends})
	if err != nil {
		return 0, mapErr(doing, err, nil)
	}
	err = q.q.APIKeyRotate(ctx, q.db, authdb.APIKeyRotateParams{
		ID: held.ID, KeyHash: hex.EncodeToString(next[:]), Now: &now, OldUntil: last, ExpiresAt: held.ExpiresAt,
	})
	if err != nil || until == nil {
		return 0, mapErr(doing, err, nil)
	}
	n, err := q.q.OldSecretCount(ctx, q.db, held.ID)
	return n, mapErr(doing, err, nil)
}

// RevokeAPIKey ends a key that the transaction has locked.
func (q Queries) RevokeAPIKey(ctx context.Context, id uuid.UUID, now time.Time) error {
	return mapErr("revoke API key", q.q.APIKeyRevoke(ctx, q.db, authdb.APIKeyRevokeParams{ID: id, Now: &now}), nil)
}

// APIKeyHolder tells all that matters of the key with the prefix, or ErrInvalidAPIKey.
func (q Queries) APIKeyHolder(ctx context.Context, prefix string) (APIKeyHolder, error) {
	row, err := q.q.APIKeyHolder(ctx, q.db, prefix)
	if err != nil {
		return APIKeyHolder{}, mapErr("read API key", err, auth.ErrInvalidAPIKey)
	}
	h := APIKeyHolder{
		ID: row.ID, Scope: identity.Scope(row.Scope), ExpiresAt: utc(row.ExpiresAt), Over: row.Over,
		Owner: Holder{Kind: auth.PrincipalUser, ID: row.UserID, HomeID: row.TenantID, HomeRole: row.Role}, Username: row.Username,
	}
	if h.Permissions, err = decodePermissions(row.Permissions); err != nil {
		return h, err
	}
	old, err := q.q.OldSecretList(ctx, q.db, row.ID)
	if err != nil {
		return h, mapErr("read old secrets of an API key", err, nil)
	}
	h.Secrets = make([]APIKeySecret, 1, 1+len(old))
	if h.Secrets[0].Hash, err = decodeHash(row.KeyHash); err != nil {
		return h, err
	}
	for _, o := range old {
		hash, err := decodeHash(o.KeyHash)
		if err != nil {
			return h, err
		}
		h.Secrets = append(h.Secrets, APIKeySecret{Hash: hash, Until: utc(&o.ExpiresAt)})
	}
	return h, nil
}

// TouchAPIKeys notes the last use of keys.
func (q Queries) TouchAPIKeys(ctx context.Context, uses map[uuid.UUID]APIKeyUse) error {
	var p authdb.APIKeyTouchParams
	for id, use := range uses {
		from := ""
		if use.From.IsValid() {
			from = use.From.String()
		}
		p.Ids, p.Ats, p.Ips = append(p.Ids, id), append(p.Ats, use.At), append(p.Ips, from)
	}
	return mapErr("note the use of API keys", q.q.APIKeyTouch(ctx, q.db, p), nil)
}

// APIKeyBound tells whether any role is bound to the key.
func (q Queries) APIKeyBound(ctx context.Context, id uuid.UUID) (bool, error) {
	bound, err := q.q.APIKeyBound(ctx, q.db, id)
	return bound, mapErr("look for roles of an API key", err, nil)
}

// PruneAPIKeys forgets keys that expired or were revoked before the given time, and what was bound to keys that are gone.
func (q Queries) PruneAPIKeys(ctx context.Context, before time.Time) (int64, error) {
	n, err := q.q.APIKeyPrune(ctx, q.db, before)
	if err == nil {
		err = q.q.APIKeyBindingPrune(ctx, q.db)
	}
	return n, mapErr("prune API keys", err, nil)
}

// ServiceAccounts lists service accounts within reach, newest first.
func (q Queries) ServiceAccounts(ctx context.Context, reach Reach, after *After, limit int) ([]auth.User, error) {
	t, id := after.split()
	rows, err := q.q.ServiceAccountList(ctx, q.db, authdb.ServiceAccountListParams{Reach: reach, AfterTime: t, AfterID: id, MaxRows: int32(limit)})
	return convert(rows, user), mapErr("list service accounts", err, nil)
}

func apiKey(r authdb.APIKeyListRow) (auth.APIKey, error) {
	k := auth.APIKey{
		ID: r.ApiKey.ID, Name: r.ApiKey.Name, Prefix: r.ApiKey.Prefix, UserID: r.ApiKey.UserID, Username: r.Username, TenantID: r.TenantID,
		Scope: identity.Scope(r.ApiKey.Scope), ExpiresAt: utc(r.ApiKey.ExpiresAt), LastUsedAt: utc(r.ApiKey.LastUsedAt),
		LastUsedIP: r.ApiKey.LastUsedIp, RotatedAt: utc(r.ApiKey.RotatedAt), OldSecretsUntil: utc(r.ApiKey.OldUntil), CreatedBy: r.ApiKey.CreatedBy,
		Version: r.ApiKey.Version, CreatedAt: r.ApiKey.CreatedAt.UTC(), UpdatedAt: r.ApiKey.UpdatedAt.UTC(),
	}
	var err error
	k.Permissions, err = decodePermissions(r.ApiKey.Permissions)
	return k, err
}

func encodePermissions(list []string) ([]byte, error) {
	if list == nil {
		return nil, nil
	}
	text, err := json.Marshal(list)
	if err != nil {
		return nil, fmt.Errorf("encode permissions: %w", err)
	}
	return text, nil
}

// decodePermissions keeps no bound (NULL) and a bound that allows nothing apart.
func decodePermissions(text []byte) ([]string, error) {
	if text == nil {
		return nil, nil
	}
	list := []string{}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("decode permissions of an API key: %w", err)
	}
	if list == nil { // a JSON null written by hand must not lift the bound
		list = []string{}
	}
	return list, nil
}

func decodeHash(text string) (apikey.Hash, error) {
	var h apikey.Hash
	raw, err := hex.DecodeString(text)
	if err != nil {
		return h, fmt.Errorf("decode hash of an API key: %w", err)
	}
	if copy(h[:], raw) != len(h) || len(raw) != len(h) {
		return h, fmt.Errorf("the hash of an API key has %d bytes", len(raw))
	}
	return h, nil
}
