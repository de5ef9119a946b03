-- name: NetworkInsert :one
INSERT INTO vm_networks (id, tenant_id, owner_id, name, mode, bridge, cidr, gateway, dhcp_start, dhcp_end, is_default, status, operation_id,
    cidr6, gateway6, uplink, vlan)
VALUES (@id, @tenant_id, @owner_id, @name, @mode, @bridge, @cidr, @gateway, @dhcp_start, @dhcp_end, @is_default, 'creating', @operation_id,
    @cidr6, @gateway6, @uplink, @vlan)
RETURNING *;

-- name: NetworkGet :one
SELECT * FROM vm_networks WHERE id = @id;

-- name: NetworkGetForUpdate :one
SELECT * FROM vm_networks WHERE id = @id FOR UPDATE;

-- name: NetworkGetDefault :one
SELECT * FROM vm_networks WHERE tenant_id = @tenant_id AND is_default;

-- name: NetworkList :many
SELECT * FROM vm_networks
WHERE tenant_id = @tenant_id AND (created_at, id) < (@after_time::timestamptz, @after_id::uuid)
    AND (@name::text = '' OR name = @name) AND (sqlc.narg(owner)::uuid IS NULL OR owner_id = sqlc.narg(owner))
ORDER BY created_at DESC, id DESC LIMIT @max_rows;

-- name: NetworkCIDRs :many
SELECT cidr::cidr FROM vm_networks WHERE cidr IS NOT NULL
UNION ALL
SELECT cidr6::cidr FROM vm_networks WHERE cidr6 IS NOT NULL;

-- name: NetworkUpdate :one
UPDATE vm_networks SET name = @name, dhcp_start = @dhcp_start, dhcp_end = @dhcp_end, version = version + 1, operation_id = @operation_id, updated_at = now()
WHERE id = @id RETURNING *;

-- name: NetworkAddresses :many
SELECT ip::inet FROM vm_macs WHERE network_id = @network_id AND ip IS NOT NULL;

-- name: NetworkInUse :one
SELECT EXISTS (SELECT 1 FROM vm_macs WHERE network_id = @id);

-- name: NetworkSetStatus :one
UPDATE vm_networks SET status = @status, operation_id = @operation_id, updated_at = now() WHERE id = @id
RETURNING *;

-- name: NetworkDelete :one
DELETE FROM vm_networks WHERE id = @id RETURNING *;

-- name: InstallationInsert :exec
INSERT INTO installation (id) VALUES (@id) ON CONFLICT (singleton) DO NOTHING;

-- name: InstallationGet :one
SELECT id FROM installation;
