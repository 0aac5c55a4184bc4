-- +goose Up
-- Every version of every room's settings document; the highest is in force. Rows are never changed: they are the audit.
CREATE TABLE settings (
    room    TEXT    NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0),
    doc     BLOB    NOT NULL,
    who     TEXT    NOT NULL,
    why     TEXT    NOT NULL,
    at_ms   INTEGER NOT NULL,
    PRIMARY KEY (room, version)
) WITHOUT ROWID;
