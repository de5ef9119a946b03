-- name: VolumeInsert :one
INSERT INTO volumes (id, tenant_id, owner_id, name, description, tags, node_id, format, size_bytes, image_id, status, operation_id)
VALUES (@id, @tenant_id, @owner_id, @name, @description, @tags, @node_id, @format, @size_bytes, @image_id, 'creating', @operation_id)
RETURNING *;

-- name: VolumeGet :one
SELECT * FROM volumes WHERE id = @id;

-- name: VolumeGetForUpdate :one
SELECT * FROM volumes WHERE id = @id FOR UPDATE;

-- name: VolumeNameTaken :one
SELECT EXISTS (SELECT 1 FROM volumes WHERE tenant_id = @tenant_id AND name = @name);

-- name: VolumeList :many
SELECT * FROM volumes
WHERE tenant_id = @tenant_id AND (created_at, id) < (@after_time::timestamptz, @after_id::uuid)
    AND (sqlc.narg(owner)::uuid IS NULL OR owner_id = sqlc.narg(owner))
    AND (@name::text = '' OR name = @name) AND (sqlc.narg(vm_id)::uuid IS NULL OR vm_id = sqlc.narg(vm_id))
    AND tags @> @tags::jsonb AND jsonb_exists_all(tags, @tag_keys::text[])
ORDER BY created_at DESC, id DESC LIMIT @max_rows;

-- name: VolumeListAll :many
SELECT * FROM volumes
WHERE (created_at, id) < (@after_time::timestamptz, @after_id::uuid)
    AND (@name::text = '' OR name = @name) AND (sqlc.narg(vm_id)::uuid IS NULL OR vm_id = sqlc.narg(vm_id))
    AND tags @> @tags::jsonb AND jsonb_exists_all(tags, @tag_keys::text[])
ORDER BY created_at DESC, id DESC LIMIT @max_rows;

-- name: VolumeListByVMs :many
SELECT * FROM volumes WHERE vm_id = ANY (@vm_ids::uuid[]) ORDER BY vm_id, attached_at, id;

-- name: VolumeListByOperation :many
SELECT * FROM volumes WHERE operation_id = @operation_id::uuid FOR UPDATE;

-- name: VolumeUpdateDetails :one
UPDATE volumes SET name = @name, description = @description, tags = @tags, updated_at = now() WHERE id = @id
RETURNING *;

-- name: VolumeBegin :one
UPDATE volumes SET status = @status, operation_id = @operation_id, generation = generation + 1, updated_at = now() WHERE id = @id
RETURNING *;

-- name: VolumeAttach :exec
UPDATE volumes SET vm_id = @vm_id, attached_at = clock_timestamp(), operation_id = @operation_id, updated_at = now() WHERE id = @id;

-- name: VolumeDetach :exec
UPDATE volumes SET vm_id = NULL, attached_at = NULL, operation_id = NULL, updated_at = now() WHERE id = @id;

-- name: VolumeHold :exec
UPDATE volumes SET operation_id = @operation_id, updated_at = now() WHERE id = @id;

-- name: VolumeEnd :one
UPDATE volumes SET status = @status, operation_id = NULL, updated_at = now() WHERE id = @id
RETURNING *;

-- name: VolumeSetSize :one
UPDATE volumes SET size_bytes = @size_bytes, updated_at = now() WHERE id = @id AND size_bytes < @size_bytes
RETURNING *;

-- name: VolumeSetUsage :exec
UPDATE volumes SET allocated_bytes = @allocated_bytes WHERE id = @id AND allocated_bytes <> @allocated_bytes;

-- name: VolumeDeleteWithVM :exec
UPDATE volumes SET status = 'deleting', operation_id = @operation_id, generation = generation + 1, updated_at = now() WHERE vm_id = @vm_id;

-- name: VolumeDelete :one
DELETE FROM volumes WHERE id = @id RETURNING *;

-- name: VolumeUndeleted :many
SELECT * FROM volumes WHERE status = 'deleting' AND vm_id IS NULL ORDER BY updated_at LIMIT @max_rows;

-- name: VolumeExisting :many
SELECT id FROM volumes WHERE id = ANY (@ids::uuid[]);

-- name: VolumeTotals :one
SELECT count(*) AS volumes, coalesce(sum(size_bytes), 0)::bigint AS size_bytes, coalesce(sum(allocated_bytes), 0)::bigint AS allocated_bytes FROM volumes;
