-- Every query that serves a caller takes reach: the tenant the caller may see, or NULL for all of them.

-- name: UserInsert :one
INSERT INTO users (id, kind, username, description, email, password_hash, role, tenant_id, password_change_required, password_expires_at,
    password_changed_at, created_at, updated_at)
VALUES (@id, @kind, @username, @description, @email, @password_hash, @role, @tenant_id, @password_change_required, @password_expires_at, @now, @now, @now)
RETURNING *;

-- name: UserGet :one
SELECT * FROM users WHERE id = @id AND (sqlc.narg(reach)::uuid IS NULL OR tenant_id = sqlc.narg(reach));

-- name: UserGetForUpdate :one
SELECT * FROM users WHERE id = @id AND (sqlc.narg(reach)::uuid IS NULL OR tenant_id = sqlc.narg(reach)) FOR UPDATE;

-- UserGetByUsername also tells whether the tenant is disabled: who cannot use a session should not get one.
-- name: UserGetByUsername :one
SELECT sqlc.embed(users), (tenants.disabled_at IS NOT NULL OR organisations.disabled_at IS NOT NULL)::boolean AS tenant_disabled
FROM users JOIN tenants ON tenants.id = users.tenant_id LEFT JOIN tenants organisations ON organisations.id = tenants.parent_id
WHERE lower(users.username) = lower(@username::text);

-- name: UserList :many
SELECT * FROM users
WHERE (sqlc.narg(reach)::uuid IS NULL OR tenant_id = sqlc.narg(reach))
  AND (sqlc.narg(username)::text IS NULL OR lower(username) = lower(sqlc.narg(username)))
  AND (sqlc.narg(after_time)::timestamptz IS NULL OR (created_at, id) < (sqlc.narg(after_time), @after_id::uuid))
ORDER BY created_at DESC, id DESC
LIMIT @max_rows;

-- name: UserUpdate :one
UPDATE users SET email = sqlc.narg(email), role = @role, description = @description, version = version + 1, updated_at = @now,
    disabled_at = CASE WHEN @disabled::boolean THEN coalesce(disabled_at, @now) END
WHERE id = @id
RETURNING *;

-- name: UserSetPassword :one
UPDATE users SET password_hash = @password_hash, password_changed_at = @now, version = version + 1, updated_at = @now,
    password_change_required = @change_required, password_expires_at = @expires_at
WHERE id = @id
RETURNING *;

-- UserRehash replaces the hash of an unchanged password, unless the password was changed meanwhile.
-- name: UserRehash :exec
UPDATE users SET password_hash = @new_hash WHERE id = @id AND password_hash = @old_hash;

-- name: UserDelete :exec
DELETE FROM users WHERE id = @id;

-- UserCount serves the first start only, which asks under the bootstrap lock.
-- name: UserCount :one
SELECT count(*) FROM users;

-- UserLockAdmins locks the accounts that can repair everything else, always in the same order. A service account cannot log in, so it is none.
-- name: UserLockAdmins :many
SELECT id FROM users WHERE role = 'admin' AND kind = 'human' AND disabled_at IS NULL ORDER BY id FOR UPDATE;

-- name: BootstrapLock :exec
SELECT pg_advisory_xact_lock(hashtextextended('novacron.auth.bootstrap', 0));
