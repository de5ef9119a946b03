-- Roles are seen from a tenant: the built-in ones and its own.

-- name: RoleList :many
SELECT r.*, coalesce(array_agg(p.permission::text ORDER BY p.permission) FILTER (WHERE p.permission IS NOT NULL), '{}')::text[] AS permissions
FROM roles r LEFT JOIN permissions p ON p.role_id = r.id
WHERE r.tenant_id IS NULL OR r.tenant_id = @tenant_id
GROUP BY r.id
ORDER BY r.tenant_id NULLS FIRST, r.id;

-- A tenant's own role never hides a built-in one.
-- name: RoleGet :one
SELECT r.*, coalesce(array_agg(p.permission::text ORDER BY p.permission) FILTER (WHERE p.permission IS NOT NULL), '{}')::text[] AS permissions
FROM roles r LEFT JOIN permissions p ON p.role_id = r.id
WHERE r.name = @name AND (r.tenant_id IS NULL OR r.tenant_id = @tenant_id)
GROUP BY r.id
ORDER BY r.tenant_id NULLS FIRST
LIMIT 1;

-- name: PermissionList :many
SELECT DISTINCT permission::text FROM permissions WHERE permission NOT LIKE '%*%' ORDER BY 1;
