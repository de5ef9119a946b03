-- A second factor for logins, who must have one, and passwords that are reset by a link.

-- +goose Up

-- The secret of a user's authenticator app, sealed with a key that is not in the database (see the package seal). One that was made and not yet
-- confirmed waits beside the one in force, if there is one. last_step is the time step of the last code that was accepted: RFC 6238,
-- section 5.2, lets a code count once.
CREATE TABLE mfa_totp (
    user_id        uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    secret         bytea,
    enabled_at     timestamptz,
    last_step      bigint NOT NULL DEFAULT 0,
    pending_secret bytea,
    pending_until  timestamptz,
    CONSTRAINT mfa_totp_whole CHECK ((secret IS NULL) = (enabled_at IS NULL) AND (pending_secret IS NULL) = (pending_until IS NULL))
);

-- Recovery codes are known by their hash only, and removed when they are used.
CREATE TABLE mfa_recovery_codes (
    user_id   uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    code_hash bytea NOT NULL,
    PRIMARY KEY (user_id, code_hash)
);

-- A challenge is a login whose password was right and whose second factor is awaited.
CREATE TABLE mfa_challenges (
    token_hash          bytea PRIMARY KEY,
    user_id             uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    password_changed_at timestamptz NOT NULL, -- a changed password ends the challenge
    failures            integer NOT NULL DEFAULT 0,
    expires_at          timestamptz NOT NULL
);
CREATE INDEX mfa_challenges_user ON mfa_challenges (user_id);
CREATE INDEX mfa_challenges_expires_at ON mfa_challenges (expires_at);

-- Who must have a second factor: a tenant's users (and those of its projects), the holders of a role in it, or the same everywhere.
CREATE TABLE mfa_requirements (
    id         uuid PRIMARY KEY,
    tenant_id  uuid REFERENCES tenants (id) ON DELETE CASCADE, -- null: everywhere
    role       varchar(50),                                    -- null: everybody
    created_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX mfa_requirements_key ON mfa_requirements (coalesce(tenant_id, '00000000-0000-0000-0000-000000000000'), coalesce(role, ''));

-- What asks for a link to reset a password is written down, whoever it names, and looked at later: the answer tells nothing, nor does its time.
CREATE TABLE password_reset_requests (
    id          uuid PRIMARY KEY,
    email       text NOT NULL,
    ip          text NOT NULL,
    tries       integer NOT NULL DEFAULT 0,
    next_try_at timestamptz NOT NULL,
    created_at  timestamptz NOT NULL
);
CREATE INDEX password_reset_requests_next_try_at ON password_reset_requests (next_try_at);

-- A link is known by the hash of its token only, works once, and only until the password is changed by other means.
CREATE TABLE password_resets (
    token_hash          bytea PRIMARY KEY,
    user_id             uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    password_changed_at timestamptz NOT NULL,
    expires_at          timestamptz NOT NULL
);
CREATE INDEX password_resets_user ON password_resets (user_id);
CREATE INDEX password_resets_expires_at ON password_resets (expires_at);

INSERT INTO permissions (role_id, permission)
SELECT r.id, 'mfa-policy:read' FROM roles r WHERE r.tenant_id IS NULL AND r.name IN ('operator', 'auditor');

-- +goose Down
DELETE FROM permissions WHERE permission = 'mfa-policy:read' AND role_id IN (SELECT id FROM roles WHERE tenant_id IS NULL);
DROP TABLE password_resets, password_reset_requests, mfa_requirements, mfa_challenges, mfa_recovery_codes, mfa_totp;
UPDATE users SET mfa_enabled = false;
