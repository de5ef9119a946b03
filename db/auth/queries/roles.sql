-- Roles are seen from a tenant: the built-in ones and its own. Built-in ones are the oldest, so they come first.

-- name: RoleList :many
SELECT r.*, coalesce(array_agg(p.permission::text ORDER BY p.permission) FILTER (WHERE p.permission IS NOT NULL), '{}')::text[] AS permissions
FROM roles r LEFT JOIN permissions p ON p.role_id = r.id
WHERE (r.tenant_id IS NULL OR r.tenant_id = @tenant_id)
  AND (sqlc.narg(after_time)::timestamptz IS NULL OR (r.created_at, r.id) > (sqlc.narg(after_time), @after_id::uuid))
GROUP BY r.id
ORDER BY r.created_at, r.id
LIMIT @max_rows;

-- A tenant's own role never hides a built-in one.
-- name: RoleGet :one
SELECT r.*, coalesce(array_agg(p.permission::text ORDER BY p.permission) FILTER (WHERE p.permission IS NOT NULL), '{}')::text[] AS permissions
FROM roles r LEFT JOIN permissions p ON p.role_id = r.id
WHERE r.name = @name AND (r.tenant_id IS NULL OR r.tenant_id = @tenant_id)
GROUP BY r.id
ORDER BY r.tenant_id NULLS FIRST
LIMIT 1;

-- name: RoleGetByID :one
SELECT r.*, coalesce(array_agg(p.permission::text ORDER BY p.permission) FILTER (WHERE p.permission IS NOT NULL), '{}')::text[] AS permissions
FROM roles r LEFT JOIN permissions p ON p.role_id = r.id
WHERE r.id = @id AND (r.tenant_id IS NULL OR r.tenant_id = @tenant_id)
GROUP BY r.id;

-- RoleHold keeps a role from being changed or removed until the transaction ends.
-- name: RoleHold :exec
SELECT 1 FROM roles WHERE id = @id FOR SHARE;

-- name: RoleLock :exec
SELECT 1 FROM roles WHERE id = @id FOR UPDATE;

-- name: RoleInsert :exec
INSERT INTO roles (id, tenant_id, name, description, scope, created_at, updated_at)
VALUES (@id, @tenant_id, @name, @description, 'tenant', @now, @now);

-- name: RoleUpdate :exec
UPDATE roles SET description = @description, version = version + 1, updated_at = @now WHERE id = @id;

-- name: RoleDelete :exec
DELETE FROM roles WHERE id = @id;

-- name: RoleCount :one
SELECT count(*) FROM roles WHERE tenant_id = @tenant_id;

-- RoleUsed tells whether a user of the tenant has the role as their own. Bindings are kept in place by their foreign key.
-- name: RoleUsed :one
SELECT EXISTS (SELECT 1 FROM users WHERE tenant_id = @tenant_id AND role = @name);

-- name: RolePermissionAdd :exec
INSERT INTO permissions (role_id, permission) SELECT @role_id, unnest(@permissions::text[]) ON CONFLICT DO NOTHING;

-- name: RolePermissionClear :exec
DELETE FROM permissions WHERE role_id = @role_id;

-- PermissionList leaves out what only narrows others.
-- name: PermissionList :many
SELECT DISTINCT permission::text FROM permissions WHERE permission NOT LIKE '%*%' AND permission NOT LIKE '%:%:%' ORDER BY 1;

-- PermissionResources lists the resources of tenants: those that built-in roles of tenants name. GrantList knows the same.
-- name: PermissionResources :many
SELECT DISTINCT split_part(p.permission, ':', 1)::text FROM permissions p JOIN roles r ON r.id = p.role_id
WHERE r.tenant_id IS NULL AND r.scope = 'tenant' AND p.permission NOT LIKE '*%' ORDER BY 1;

-- RoleReachesProjects tells whether somebody has the role in the projects of its tenant too.
-- name: RoleReachesProjects :one
SELECT EXISTS (SELECT 1 FROM role_bindings WHERE role_id = @role_id AND include_projects);
