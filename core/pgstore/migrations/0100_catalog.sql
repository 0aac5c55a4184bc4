-- +goose Up
-- Documents are JSON: they are read whole, and their fields are checked before they are written.

CREATE TABLE venue (
    id       uuid PRIMARY KEY,
    slug     text NOT NULL UNIQUE,
    version  bigint NOT NULL,
    document jsonb NOT NULL
);

CREATE TABLE event (
    id       uuid PRIMARY KEY,
    slug     text NOT NULL UNIQUE,
    version  bigint NOT NULL,
    document jsonb NOT NULL
);

CREATE TABLE performance (
    id        uuid PRIMARY KEY,
    slug      text NOT NULL UNIQUE,
    version   bigint NOT NULL,
    starts_ms bigint NOT NULL,
    document  jsonb NOT NULL
);

CREATE TABLE scan (
    nonce     text PRIMARY KEY,
    gate      text NOT NULL,
    ticket_id uuid,                    -- null: the code could not be read
    accepted  integer NOT NULL,
    reason    text NOT NULL,
    at_ms     bigint NOT NULL
);
-- One person for each ticket, whatever two gates do at the same moment.
CREATE UNIQUE INDEX scan_once ON scan (ticket_id) WHERE accepted = 1;

-- +goose Down
DROP TABLE scan;
DROP TABLE performance;
DROP TABLE event;
DROP TABLE venue;
