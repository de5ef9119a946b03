-- name: ResetRequestInsert :exec
INSERT INTO password_reset_requests (id, email, ip, next_try_at, created_at) VALUES (@id, @email, @ip, @now, @now);

-- ResetRequestTake gives the oldest requests that are due to one worker: they are due again, for whoever comes then, unless they are removed.
-- name: ResetRequestTake :many
UPDATE password_reset_requests SET tries = tries + 1, next_try_at = @next_try_at
WHERE id IN (
    SELECT r.id FROM password_reset_requests r WHERE r.next_try_at <= @now ORDER BY r.next_try_at LIMIT @max_rows FOR UPDATE SKIP LOCKED
)
RETURNING *;

-- name: ResetRequestPostpone :exec
UPDATE password_reset_requests SET next_try_at = @next_try_at WHERE id = @id;

-- name: ResetRequestDelete :exec
DELETE FROM password_reset_requests WHERE id = @id;

-- name: ResetInsert :exec
INSERT INTO password_resets (token_hash, user_id, password_changed_at, expires_at) VALUES (@token_hash, @user_id, @password_changed_at, @expires_at);

-- name: ResetGet :one
SELECT * FROM password_resets WHERE token_hash = @token_hash;

-- name: ResetGetForUpdate :one
SELECT * FROM password_resets WHERE token_hash = @token_hash FOR UPDATE;

-- ResetClear ends every link of a user.
-- name: ResetClear :exec
DELETE FROM password_resets WHERE user_id = @user_id;

-- name: ResetPrune :execrows
DELETE FROM password_resets WHERE expires_at < @before;

-- UserGetByEmail also tells whether the tenant is disabled.
-- name: UserGetByEmail :one
SELECT sqlc.embed(users), (tenants.disabled_at IS NOT NULL OR organisations.disabled_at IS NOT NULL)::boolean AS tenant_disabled
FROM users JOIN tenants ON tenants.id = users.tenant_id LEFT JOIN tenants organisations ON organisations.id = tenants.parent_id
WHERE lower(users.email) = lower(@email::text);
