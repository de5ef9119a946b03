-- GrantList tells what a principal may do in a tenant, one row for each role that gives it. No row: nothing, or the tenant is not in use.
-- Reach 'tenant' is that tenant alone, 'projects' the projects below it too, 'platform' every tenant. Below the platform "any resource" means those
-- that built-in roles of tenants name: nodes and other things of the installation are nobody's who is not on the platform, unless named.
-- name: GrantList :many
WITH place AS (
    SELECT t.id, t.parent_id FROM tenants t LEFT JOIN tenants o ON o.id = t.parent_id
    WHERE t.id = @tenant_id AND (@even_disabled::boolean OR (t.disabled_at IS NULL AND o.disabled_at IS NULL))
), tenant_resources AS (
    SELECT DISTINCT split_part(p.permission, ':', 1) AS resource FROM permissions p JOIN roles r ON r.id = p.role_id
    WHERE r.tenant_id IS NULL AND r.scope = 'tenant' AND p.permission NOT LIKE '*%'
), held AS (
    SELECT home.id AS role_id, home.name, CASE home.scope WHEN 'platform' THEN 'platform' ELSE 'tenant' END AS reach
    FROM place, LATERAL (
        SELECT r.id, r.name, r.scope FROM roles r
        WHERE r.name = @home_role::text AND (r.tenant_id IS NULL OR r.tenant_id = @home_tenant::uuid)
        ORDER BY r.tenant_id NULLS FIRST LIMIT 1
    ) home
    WHERE home.scope = 'platform' OR place.id = @home_tenant::uuid
    UNION ALL
    SELECT b.role_id, r.name, CASE WHEN b.scope = 'platform' THEN 'platform' WHEN b.include_projects THEN 'projects' ELSE 'tenant' END
    FROM place, role_bindings b JOIN roles r ON r.id = b.role_id
    WHERE b.principal_kind = @principal_kind AND b.principal_id = @principal_id
      AND (b.scope = 'platform' OR b.tenant_id = place.id OR (b.include_projects AND b.tenant_id = place.parent_id))
)
SELECT held.name::text AS role, held.reach::text AS reach,
    coalesce((
        SELECT array_agg(DISTINCT x.permission)
        FROM permissions p, LATERAL (
            SELECT p.permission::text AS permission WHERE held.reach = 'platform' OR p.permission NOT LIKE '*%'
            UNION ALL
            SELECT tr.resource || CASE p.permission WHEN '*' THEN ':*' ELSE substr(p.permission, 2) END
            FROM tenant_resources tr WHERE held.reach <> 'platform' AND p.permission LIKE '*%'
        ) x
        WHERE p.role_id = held.role_id
    ), '{}')::text[] AS permissions
FROM held
ORDER BY held.name, held.reach;

-- GrantPlaces lists the tenants in which a principal has bindings.
-- name: GrantPlaces :many
SELECT DISTINCT tenant_id::uuid AS tenant_id FROM role_bindings
WHERE principal_kind = @principal_kind AND principal_id = @principal_id AND scope = 'tenant'
ORDER BY 1;

-- GrantTenants lists the tenants in use that a user can act in without a permission on the platform.
-- name: GrantTenants :many
SELECT t.* FROM tenants t LEFT JOIN tenants o ON o.id = t.parent_id
WHERE t.disabled_at IS NULL AND o.disabled_at IS NULL
  AND (t.id = @home_tenant OR EXISTS (
    SELECT 1 FROM role_bindings b
    WHERE b.principal_kind = 'user' AND b.principal_id = @user_id
      AND (b.tenant_id = t.id OR (b.include_projects AND b.tenant_id = t.parent_id))))
ORDER BY lower(t.name), t.id
LIMIT @max_rows;

-- name: BindingInsert :one
INSERT INTO role_bindings (id, principal_kind, principal_id, role_id, scope, tenant_id, include_projects, created_by, created_at)
VALUES (@id, @principal_kind, @principal_id, @role_id, @scope, @tenant_id, @include_projects, @created_by, @now)
RETURNING *;

-- Reach is the tenant that the caller may see, or NULL for all and for what is bound on the platform.
-- name: BindingGet :one
SELECT sqlc.embed(b), r.name AS role, coalesce(u.username, k.name, '')::text AS principal
FROM role_bindings b JOIN roles r ON r.id = b.role_id LEFT JOIN users u ON b.principal_kind = 'user' AND u.id = b.principal_id
    LEFT JOIN api_keys k ON b.principal_kind = 'api_key' AND k.id = b.principal_id
WHERE b.id = @id AND (sqlc.narg(reach)::uuid IS NULL OR b.tenant_id = sqlc.narg(reach));

-- name: BindingList :many
SELECT sqlc.embed(b), r.name AS role, coalesce(u.username, k.name, '')::text AS principal
FROM role_bindings b JOIN roles r ON r.id = b.role_id LEFT JOIN users u ON b.principal_kind = 'user' AND u.id = b.principal_id
    LEFT JOIN api_keys k ON b.principal_kind = 'api_key' AND k.id = b.principal_id
WHERE (sqlc.narg(reach)::uuid IS NULL OR b.tenant_id = sqlc.narg(reach))
  AND (sqlc.narg(scope)::text IS NULL OR b.scope = sqlc.narg(scope))
  AND (sqlc.narg(principal_id)::uuid IS NULL OR b.principal_id = sqlc.narg(principal_id))
  AND (sqlc.narg(role_id)::uuid IS NULL OR b.role_id = sqlc.narg(role_id))
  AND (sqlc.narg(after_time)::timestamptz IS NULL OR (b.created_at, b.id) < (sqlc.narg(after_time), @after_id::uuid))
ORDER BY b.created_at DESC, b.id DESC
LIMIT @max_rows;

-- name: BindingDelete :execrows
DELETE FROM role_bindings WHERE id = @id;

-- BindingDeleteOf removes the bindings of a principal that is removed.
-- name: BindingDeleteOf :exec
DELETE FROM role_bindings WHERE principal_kind = @principal_kind AND principal_id = @principal_id;
