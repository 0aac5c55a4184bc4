-- +goose Up
-- Documents are JSON: they are read whole, and their fields are checked before they are written.

CREATE TABLE venue (
    id       TEXT PRIMARY KEY,
    slug     TEXT NOT NULL UNIQUE,
    version  INTEGER NOT NULL,
    document TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
    id       TEXT PRIMARY KEY,
    slug     TEXT NOT NULL UNIQUE,
    version  INTEGER NOT NULL,
    document TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE performance (
    id        TEXT PRIMARY KEY,
    slug      TEXT NOT NULL UNIQUE,
    version   INTEGER NOT NULL,
    starts_ms INTEGER NOT NULL,
    document  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE scan (
    nonce     TEXT PRIMARY KEY,
    gate      TEXT NOT NULL,
    ticket_id TEXT,                    -- null: the code could not be read
    accepted  INTEGER NOT NULL,
    reason    TEXT NOT NULL,
    at_ms     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- One person for each ticket, whatever two gates do at the same moment.
CREATE UNIQUE INDEX scan_once ON scan (ticket_id) WHERE accepted = 1;

-- +goose Down
DROP TABLE scan;
DROP TABLE performance;
DROP TABLE event;
DROP TABLE venue;
