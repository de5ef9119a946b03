-- Requests with an Idempotency-Key, and their answers.
CREATE TABLE idempotency_keys (
    principal_id uuid        NOT NULL,
    route        text        NOT NULL,
    key          text        NOT NULL,
    body_sha256  bytea       NOT NULL,
    lock         uuid        NOT NULL, -- of whoever carries the request out, or did
    locked_until timestamptz NOT NULL,
    status       integer,              -- null: the request is being carried out
    header       jsonb,
    body         bytea,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (principal_id, route, key)
);
CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);
