-- The audit trail: records of calls in a chain of hashes, and what is needed to make and to prove it.

-- +goose Up
-- The transactional outbox: events of this module, told after commit and kept for replay.
CREATE TABLE outbox (
    seq          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id           uuid        NOT NULL UNIQUE,
    subject      text        NOT NULL,
    payload      json        NOT NULL, -- json, not jsonb: a replay gives the same bytes as the first telling
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    published_at timestamptz
);
CREATE INDEX outbox_unpublished ON outbox (seq) WHERE published_at IS NULL;
CREATE INDEX outbox_subject ON outbox (subject, seq);
CREATE INDEX outbox_created_at ON outbox (created_at);

-- Calls that are being carried out. What stays here when its process has gone becomes an audit record with the result "unknown".
CREATE TABLE audit_intents (
    id          uuid        PRIMARY KEY,
    record      json        NOT NULL,
    alive_until timestamptz NOT NULL
);
CREATE INDEX audit_intents_alive_until ON audit_intents (alive_until);

-- Each row's hash covers all its columns but the hash itself, prev_hash included, so no row can be changed, removed, added or moved unnoticed.
-- Nobody and nothing is the nil UUID or the empty text.
CREATE TABLE audit_log (
    seq            bigint      PRIMARY KEY, -- without gaps
    id             uuid        NOT NULL CONSTRAINT audit_log_id_key UNIQUE,
    time           timestamptz NOT NULL,
    source         text        NOT NULL,
    module         text        NOT NULL,
    node           text        NOT NULL,
    action         text        NOT NULL,
    permission     text        NOT NULL,
    method         text        NOT NULL,
    target_kind    text        NOT NULL,
    target_id      text        NOT NULL,
    user_id        uuid        NOT NULL,
    username       text        NOT NULL,
    api_key_id     uuid        NOT NULL,
    session_id     uuid        NOT NULL,
    tenant_id      uuid        NOT NULL,
    home_tenant_id uuid        NOT NULL,
    address        text        NOT NULL,
    user_agent     text        NOT NULL,
    result         text        NOT NULL,
    status         integer     NOT NULL,
    code           text        NOT NULL,
    request_id     text        NOT NULL,
    trace_id       text        NOT NULL,
    count          bigint      NOT NULL,
    details        text        NOT NULL, -- a JSON object with its keys in order
    prev_hash      bytea       NOT NULL,
    hash           bytea       NOT NULL
);
CREATE INDEX audit_log_time ON audit_log (time);
CREATE INDEX audit_log_tenant ON audit_log (tenant_id, seq);
CREATE INDEX audit_log_user ON audit_log (user_id, seq);
CREATE INDEX audit_log_action ON audit_log (action, seq);
CREATE INDEX audit_log_target ON audit_log (target_id, seq);
CREATE INDEX audit_log_address ON audit_log (address, seq);
CREATE INDEX audit_log_request ON audit_log (request_id);
CREATE INDEX audit_log_bad ON audit_log (result, seq) WHERE result <> 'success';

-- A guard against mistakes and injected SQL; who owns the table can take it away, and the chain shows what they did.
-- +goose StatementBegin
CREATE FUNCTION audit_log_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('novacron.audit_prune', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'rows of audit_log are never changed';
END
$$;
-- +goose StatementEnd
CREATE TRIGGER audit_log_guard BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION audit_log_guard();

-- What the chain was at a moment, signed with a key outside the database. One of kind "prune" is where the chain begins after older rows were removed.
CREATE TABLE audit_checkpoints (
    seq        bigint      NOT NULL,
    kind       text        NOT NULL CHECK (kind IN ('head', 'prune')),
    hash       bytea       NOT NULL,
    created_at timestamptz NOT NULL,
    key_id     text        NOT NULL,
    signature  bytea       NOT NULL,
    PRIMARY KEY (kind, seq)
);

-- How far the outbox of each module was read.
CREATE TABLE audit_sources (
    source text   PRIMARY KEY,
    seq    bigint NOT NULL
);

INSERT INTO permissions (role_id, permission)
SELECT r.id, p.permission
FROM roles r, (VALUES ('audit:export'), ('audit:verify')) AS p (permission)
WHERE r.tenant_id IS NULL AND r.name = 'auditor'
ON CONFLICT DO NOTHING;

-- +goose Down
DELETE FROM permissions WHERE permission IN ('audit:export', 'audit:verify');
DROP TABLE audit_sources, audit_checkpoints, audit_log, audit_intents, outbox;
DROP FUNCTION audit_log_guard;
