-- What audits found that differs from what it should be, and since when. It goes when it is over.

-- +goose Up
CREATE TABLE drift_findings (
	kind      text        NOT NULL,
	object_id uuid        NOT NULL,
	node_id   uuid        NOT NULL,
	expected  text        NOT NULL,
	seen      text        NOT NULL,
	proposal  text        NOT NULL,
	since     timestamptz NOT NULL,
	PRIMARY KEY (kind, object_id, node_id)
);

-- +goose Down
DROP TABLE drift_findings;
