-- Who may open ports of the nodes to guests. Networks that reach outside by themselves need network:provider on the platform, which only
-- roles of that scope can hold.

-- +goose Up
INSERT INTO permissions (role_id, permission)
SELECT r.id, p.permission
FROM roles r
JOIN (VALUES ('operator', 'port-forward:*'), ('user', 'port-forward:*'), ('viewer', 'port-forward:read'), ('auditor', 'port-forward:read'))
    AS p (role, permission) ON p.role = r.name
WHERE r.tenant_id IS NULL
ON CONFLICT DO NOTHING;

-- +goose Down
DELETE FROM permissions WHERE permission IN ('port-forward:*', 'port-forward:read') AND role_id IN (SELECT id FROM roles WHERE tenant_id IS NULL);
