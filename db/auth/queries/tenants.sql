-- name: TenantInsert :one
INSERT INTO tenants (id, name, created_at, updated_at) VALUES (@id, @name, @now, @now) RETURNING *;

-- name: TenantGet :one
SELECT * FROM tenants WHERE id = @id AND (sqlc.narg(reach)::uuid IS NULL OR id = sqlc.narg(reach));

-- name: TenantGetForUpdate :one
SELECT * FROM tenants WHERE id = @id AND (sqlc.narg(reach)::uuid IS NULL OR id = sqlc.narg(reach)) FOR UPDATE;

-- name: TenantList :many
SELECT * FROM tenants
WHERE (sqlc.narg(reach)::uuid IS NULL OR id = sqlc.narg(reach))
  AND (sqlc.narg(after_time)::timestamptz IS NULL OR (created_at, id) < (sqlc.narg(after_time), @after_id::uuid))
ORDER BY created_at DESC, id DESC
LIMIT @max_rows;

-- name: TenantUpdate :one
UPDATE tenants SET name = @name, version = version + 1, updated_at = @now,
    disabled_at = CASE WHEN @disabled::boolean THEN coalesce(disabled_at, @now) END
WHERE id = @id
RETURNING *;
