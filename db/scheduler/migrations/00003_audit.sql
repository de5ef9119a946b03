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

-- +goose Down
DROP TABLE audit_intents, outbox;
