-- Who may use the agents in guests. It is a resource of its own and not vm, because what runs or is written there does so as root of the guest:
-- roles and API keys that hold vm:* do not come to that by an update.

-- +goose Up
INSERT INTO permissions (role_id, permission)
SELECT r.id, p.permission
FROM roles r
JOIN (VALUES ('operator', 'guest:*'), ('user', 'guest:*'), ('viewer', 'guest:read'), ('auditor', 'guest:read'))
    AS p (role, permission) ON p.role = r.name
WHERE r.tenant_id IS NULL
ON CONFLICT DO NOTHING;

-- +goose Down
DELETE FROM permissions WHERE permission IN ('guest:*', 'guest:read') AND role_id IN (SELECT id FROM roles WHERE tenant_id IS NULL);
