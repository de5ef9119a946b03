-- Queries that serve a caller take me, whose keys they always see; others, whether they see those of others, too; and reach, the tenant whose users'
-- keys these are, or NULL for all of them.

-- name: APIKeyInsert :exec
INSERT INTO api_keys (id, name, key_hash, user_id, permissions, expires_at, created_at, prefix, scope, created_by, updated_at)
VALUES (@id, @name, @key_hash, @user_id, sqlc.narg(permissions)::jsonb, sqlc.narg(expires_at), @now, @prefix, @scope, sqlc.narg(created_by), @now);

-- name: APIKeyGet :one
SELECT sqlc.embed(k), u.tenant_id, u.username
FROM api_keys k JOIN users u ON u.id = k.user_id
WHERE k.id = @id AND k.revoked_at IS NULL
  AND (k.user_id = @me OR (@others::boolean AND (sqlc.narg(reach)::uuid IS NULL OR u.tenant_id = sqlc.narg(reach))));

-- name: APIKeyGetForUpdate :one
SELECT sqlc.embed(k), u.tenant_id, u.username
FROM api_keys k JOIN users u ON u.id = k.user_id
WHERE k.id = @id AND k.revoked_at IS NULL
  AND (k.user_id = @me OR (@others::boolean AND (sqlc.narg(reach)::uuid IS NULL OR u.tenant_id = sqlc.narg(reach))))
FOR UPDATE OF k;

-- name: APIKeyList :many
SELECT sqlc.embed(k), u.tenant_id, u.username
FROM api_keys k JOIN users u ON u.id = k.user_id
WHERE k.revoked_at IS NULL
  AND (@others::boolean OR k.user_id = @me) AND (NOT @others::boolean OR sqlc.narg(reach)::uuid IS NULL OR u.tenant_id = sqlc.narg(reach))
  AND (sqlc.narg(owner)::uuid IS NULL OR k.user_id = sqlc.narg(owner))
  AND (sqlc.narg(prefix)::text IS NULL OR k.prefix = sqlc.narg(prefix)::text)
  AND (sqlc.narg(after_time)::timestamptz IS NULL OR (k.created_at, k.id) < (sqlc.narg(after_time), @after_id::uuid))
ORDER BY k.created_at DESC, k.id DESC
LIMIT @max_rows;

-- APIKeyCount counts the keys of a user that still work or could be made to.
-- name: APIKeyCount :one
SELECT count(*) FROM api_keys WHERE user_id = @user_id AND revoked_at IS NULL;

-- name: APIKeyUpdate :exec
UPDATE api_keys SET name = @name, permissions = sqlc.narg(permissions)::jsonb, scope = @scope, expires_at = sqlc.narg(expires_at),
    version = version + 1, updated_at = @now
WHERE id = @id;

-- name: APIKeyRotate :exec
UPDATE api_keys SET key_hash = @key_hash, rotated_at = @now, old_until = sqlc.narg(old_until), expires_at = sqlc.narg(expires_at),
    version = version + 1, updated_at = @now
WHERE id = @id;

-- name: APIKeyRevoke :exec
UPDATE api_keys SET revoked_at = @now, version = version + 1, updated_at = @now WHERE id = @id;

-- name: OldSecretInsert :exec
INSERT INTO api_key_old_secrets (key_hash, key_id, expires_at) VALUES (@key_hash, @key_id, @expires_at);

-- OldSecretForget forgets those of a key that have ended.
-- name: OldSecretForget :exec
DELETE FROM api_key_old_secrets WHERE key_id = @key_id AND expires_at <= @now;

-- name: OldSecretCount :one
SELECT count(*) FROM api_key_old_secrets WHERE key_id = @key_id;

-- OldSecretEnd ends those of a key that still work.
-- name: OldSecretEnd :exec
UPDATE api_key_old_secrets SET expires_at = @now WHERE key_id = @key_id AND expires_at > @now;

-- APIKeyHolder gives all that a validation needs to know.
-- name: APIKeyHolder :one
SELECT k.id, k.key_hash, k.permissions, k.scope, k.expires_at,
    (k.revoked_at IS NOT NULL OR u.disabled_at IS NOT NULL OR t.disabled_at IS NOT NULL OR o.disabled_at IS NOT NULL)::boolean AS over,
    u.id AS user_id, u.username, u.tenant_id, u.role
FROM api_keys k
JOIN users u ON u.id = k.user_id
JOIN tenants t ON t.id = u.tenant_id
LEFT JOIN tenants o ON o.id = t.parent_id
WHERE k.prefix = @prefix;

-- name: OldSecretList :many
SELECT key_hash, expires_at FROM api_key_old_secrets WHERE key_id = @key_id ORDER BY key_hash;

-- APIKeyTouch notes the last use of many keys at once.
-- name: APIKeyTouch :exec
UPDATE api_keys k SET last_used_at = u.at, last_used_ip = u.ip
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@ats::timestamptz[]) AS at, unnest(@ips::text[]) AS ip) u
WHERE k.id = u.id AND (k.last_used_at IS NULL OR k.last_used_at < u.at);

-- APIKeyPrune forgets keys that nobody has been able to use for long.
-- name: APIKeyPrune :execrows
DELETE FROM api_keys WHERE least(expires_at, revoked_at) < @before::timestamptz;

-- APIKeyBound tells whether any role is bound to the key.
-- name: APIKeyBound :one
SELECT EXISTS (SELECT 1 FROM role_bindings WHERE principal_kind = 'api_key' AND principal_id = @id)::boolean;

-- APIKeyBindingPrune forgets roles that were bound to keys which are gone, with their owners for example.
-- name: APIKeyBindingPrune :exec
DELETE FROM role_bindings b
WHERE b.principal_kind = 'api_key' AND NOT EXISTS (SELECT 1 FROM api_keys k WHERE k.id = b.principal_id AND k.revoked_at IS NULL);

-- Service accounts are users; reach is as there.

-- name: ServiceAccountList :many
SELECT * FROM users
WHERE kind = 'service' AND (sqlc.narg(reach)::uuid IS NULL OR tenant_id = sqlc.narg(reach))
  AND (sqlc.narg(after_time)::timestamptz IS NULL OR (created_at, id) < (sqlc.narg(after_time), @after_id::uuid))
ORDER BY created_at DESC, id DESC
LIMIT @max_rows;
