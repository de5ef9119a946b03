-- name: FlavorInsert :one
INSERT INTO flavors (id, name, description, vcpus, memory_mib, disk_gib)
VALUES (@id, @name, @description, @vcpus, @memory_mib, @disk_gib) RETURNING *;

-- name: FlavorGet :one
SELECT * FROM flavors WHERE id = @id;

-- name: FlavorGetByName :one
SELECT * FROM flavors WHERE name = @name;

-- name: FlavorList :many
SELECT * FROM flavors WHERE (created_at, id) > (@after_time::timestamptz, @after_id::uuid) AND (@name::text = '' OR name = @name)
ORDER BY created_at, id LIMIT @max_rows;

-- name: FlavorUpdate :one
UPDATE flavors SET name = coalesce(sqlc.narg(name), name), description = coalesce(sqlc.narg(description), description),
    vcpus = coalesce(sqlc.narg(vcpus), vcpus), memory_mib = coalesce(sqlc.narg(memory_mib), memory_mib), disk_gib = coalesce(sqlc.narg(disk_gib), disk_gib),
    version = version + 1, updated_at = now()
WHERE id = @id AND version = coalesce(sqlc.narg(seen), version) RETURNING *;

-- name: FlavorDelete :execrows
DELETE FROM flavors WHERE id = @id AND version = coalesce(sqlc.narg(seen), version);

-- name: SSHKeyInsert :one
INSERT INTO ssh_keys (id, tenant_id, owner_id, name, public_key, type, fingerprint)
VALUES (@id, @tenant_id, @owner_id, @name, @public_key, @type, @fingerprint) RETURNING *;

-- name: SSHKeyGet :one
SELECT * FROM ssh_keys WHERE id = @id;

-- name: SSHKeyGetByName :one
SELECT * FROM ssh_keys WHERE tenant_id = @tenant_id AND name = @name;

-- name: SSHKeyList :many
SELECT * FROM ssh_keys
WHERE tenant_id = @tenant_id AND (created_at, id) < (@after_time::timestamptz, @after_id::uuid)
    AND (@name::text = '' OR name = @name)
    AND (@fingerprint::text = '' OR fingerprint = @fingerprint)
    AND (sqlc.narg(owner_id)::uuid IS NULL OR owner_id = sqlc.narg(owner_id))
ORDER BY created_at DESC, id DESC LIMIT @max_rows;

-- name: SSHKeyDelete :execrows
DELETE FROM ssh_keys WHERE id = @id;

-- name: TemplateInsert :one
INSERT INTO vm_templates (id, tenant_id, owner_id, name, description, visibility, spec)
VALUES (@id, @tenant_id, @owner_id, @name, @description, @visibility, @spec) RETURNING *;

-- name: TemplateGet :one
SELECT * FROM vm_templates WHERE id = @id;

-- name: TemplateList :many
SELECT * FROM vm_templates
WHERE (tenant_id = @tenant_id AND (sqlc.narg(owner_id)::uuid IS NULL OR owner_id = sqlc.narg(owner_id)) OR visibility = 'public')
    AND (created_at, id) < (@after_time::timestamptz, @after_id::uuid)
    AND (@name::text = '' OR name = @name)
    AND (@visibility::text = '' OR visibility = @visibility)
ORDER BY created_at DESC, id DESC LIMIT @max_rows;

-- name: TemplateUpdate :one
UPDATE vm_templates SET name = coalesce(sqlc.narg(name), name), description = coalesce(sqlc.narg(description), description),
    visibility = coalesce(sqlc.narg(visibility), visibility), spec = coalesce(sqlc.narg(spec), spec), version = version + 1, updated_at = now()
WHERE id = @id AND version = coalesce(sqlc.narg(seen), version) RETURNING *;

-- name: TemplateDelete :execrows
DELETE FROM vm_templates WHERE id = @id AND version = coalesce(sqlc.narg(seen), version);
