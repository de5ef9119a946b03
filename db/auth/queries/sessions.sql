-- name: SessionInsert :exec
INSERT INTO sessions (id, user_id, ip, user_agent, created_at, last_used_at, expires_at)
VALUES (@id, @user_id, @ip, @user_agent, @now, @now, @expires_at);

-- name: UserTouchLogin :exec
UPDATE users SET last_login_at = @now WHERE id = @id;

-- SessionPrincipal gives what the holder of a session may do now. No row: it is over, or its user or tenant is.
-- name: SessionPrincipal :one
SELECT s.expires_at, u.id AS user_id, u.username, u.tenant_id, u.role, u.password_change_required
FROM sessions s
JOIN users u ON u.id = s.user_id
JOIN tenants t ON t.id = u.tenant_id
LEFT JOIN tenants o ON o.id = t.parent_id
WHERE s.id = @id AND s.revoked_at IS NULL AND u.disabled_at IS NULL AND t.disabled_at IS NULL AND o.disabled_at IS NULL;

-- SessionGetForUpdate holds the session while its refresh token is exchanged.
-- name: SessionGetForUpdate :one
SELECT * FROM sessions WHERE id = @id FOR UPDATE;

-- name: SessionGetOwn :one
SELECT * FROM sessions WHERE id = @id AND user_id = @user_id AND revoked_at IS NULL AND expires_at > @now;

-- name: SessionListOwn :many
SELECT * FROM sessions
WHERE user_id = @user_id AND revoked_at IS NULL AND expires_at > @now
  AND (sqlc.narg(after_time)::timestamptz IS NULL OR (created_at, id) < (sqlc.narg(after_time), @after_id::uuid))
ORDER BY created_at DESC, id DESC
LIMIT @max_rows;

-- name: SessionTouch :exec
UPDATE sessions SET last_used_at = @now, expires_at = @expires_at, ip = @ip, user_agent = @user_agent WHERE id = @id;

-- SessionRevoke ends one session of the user.
-- name: SessionRevoke :execrows
UPDATE sessions SET revoked_at = @now WHERE id = @id AND user_id = @user_id AND revoked_at IS NULL;

-- SessionRevokeAll ends every session of the user but the one to keep, if any.
-- name: SessionRevokeAll :execrows
UPDATE sessions SET revoked_at = @now
WHERE user_id = @user_id AND revoked_at IS NULL AND id IS DISTINCT FROM sqlc.narg(keep)::uuid;

-- SessionFromAddress tells whether the account has logged in from the address before.
-- name: SessionFromAddress :one
SELECT EXISTS (
    SELECT 1 FROM sessions s JOIN users u ON u.id = s.user_id
    WHERE lower(u.username) = lower(@username::text) AND s.ip = @ip
)::boolean;

-- SessionOfUserFromAddress is SessionFromAddress for an account that is known.
-- name: SessionOfUserFromAddress :one
SELECT EXISTS (SELECT 1 FROM sessions WHERE user_id = @user_id AND ip = @ip)::boolean;

-- name: RefreshInsert :exec
INSERT INTO refresh_tokens (token_hash, session_id, issued_at, expires_at) VALUES (@token_hash, @session_id, @issued_at, @expires_at);

-- name: RefreshGet :one
SELECT * FROM refresh_tokens WHERE token_hash = @token_hash;

-- RefreshUse marks a token as used; no row changed means that it had been already.
-- name: RefreshUse :execrows
UPDATE refresh_tokens SET used_at = @now WHERE token_hash = @token_hash AND used_at IS NULL;

-- SessionPrune forgets what nobody can use any more. What ended a while ago stays as long as its tokens could have lived.
-- name: SessionPrune :execrows
DELETE FROM sessions WHERE expires_at < @before;

-- name: RefreshPrune :execrows
DELETE FROM refresh_tokens WHERE expires_at < @before;
