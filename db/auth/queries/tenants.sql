-- Reach is a tenant: the caller sees it and its projects. NULL is every tenant.

-- name: TenantInsert :one
INSERT INTO tenants (id, name, parent_id, created_at, updated_at) VALUES (@id, @name, @parent_id, @now, @now) RETURNING *;

-- name: TenantGet :one
SELECT * FROM tenants WHERE id = @id AND (sqlc.narg(reach)::uuid IS NULL OR id = sqlc.narg(reach) OR parent_id = sqlc.narg(reach));

-- name: TenantGetForUpdate :one
SELECT * FROM tenants WHERE id = @id AND (sqlc.narg(reach)::uuid IS NULL OR id = sqlc.narg(reach) OR parent_id = sqlc.narg(reach)) FOR UPDATE;

-- TenantHold keeps a tenant from being disabled or removed until the transaction ends.
-- name: TenantHold :one
SELECT * FROM tenants WHERE id = @id FOR SHARE;

-- name: TenantByName :one
SELECT * FROM tenants WHERE lower(name) = lower(@name::text);

-- name: TenantList :many
SELECT * FROM tenants
WHERE (sqlc.narg(reach)::uuid IS NULL OR id = sqlc.narg(reach) OR parent_id = sqlc.narg(reach))
  AND (sqlc.narg(parent)::uuid IS NULL OR parent_id = sqlc.narg(parent))
  AND (sqlc.narg(name)::text IS NULL OR lower(name) = lower(sqlc.narg(name)))
  AND (sqlc.narg(after_time)::timestamptz IS NULL OR (created_at, id) < (sqlc.narg(after_time), @after_id::uuid))
ORDER BY created_at DESC, id DESC
LIMIT @max_rows;

-- name: TenantUpdate :one
UPDATE tenants SET name = @name, version = version + 1, updated_at = @now,
    disabled_at = CASE WHEN @disabled::boolean THEN coalesce(disabled_at, @now) END
WHERE id = @id
RETURNING *;

-- name: TenantDelete :exec
DELETE FROM tenants WHERE id = @id;

-- TenantObjects counts what the module itself has of a tenant. Roles and bindings do not count: they go with it.
-- name: TenantObjects :one
SELECT (SELECT count(*) FROM users WHERE tenant_id = @tenant_id) AS users, (SELECT count(*) FROM tenants WHERE parent_id = @tenant_id) AS projects;
