-- +goose Up
CREATE TABLE block (
  performance BLOB    NOT NULL,
  block       INTEGER NOT NULL,
  ver         INTEGER NOT NULL,
  last        BLOB    NOT NULL, -- op that made ver
  epoch       INTEGER NOT NULL,
  state       INTEGER NOT NULL, -- 0 closed 1 open 2 paused 3 draining 4 frozen
  chart       BLOB    NOT NULL, -- content hash of the pinned chart
  PRIMARY KEY (performance, block)
) STRICT, WITHOUT ROWID;

CREATE TABLE seat (
  performance BLOB    NOT NULL,
  block       INTEGER NOT NULL,
  seat        INTEGER NOT NULL,
  channel     INTEGER NOT NULL,
  kill        INTEGER NOT NULL, -- 0 on sale, else the reason it is not
  order_id    BLOB    NOT NULL, -- zero uuid: not sold
  hold_id     BLOB,             -- the lease, live while until > now
  until       INTEGER,          -- unix seconds
  PRIMARY KEY (performance, block, seat),
  CHECK ((hold_id IS NULL) = (until IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE chart (
  hash     BLOB PRIMARY KEY,
  document BLOB NOT NULL
) STRICT;

CREATE TABLE performance (
  id          BLOB    PRIMARY KEY,
  chart       BLOB    NOT NULL,
  block_seats INTEGER NOT NULL,
  blocks      INTEGER NOT NULL,
  channels    TEXT    NOT NULL, -- JSON object: category -> channel
  imported_at INTEGER NOT NULL, -- unix milliseconds
  complete    INTEGER NOT NULL,
  sale        INTEGER NOT NULL, -- wanted state of all blocks
  settled     INTEGER NOT NULL, -- all blocks have it
  version     INTEGER NOT NULL
) STRICT;

-- +goose Down
DROP TABLE performance;
DROP TABLE chart;
DROP TABLE seat;
DROP TABLE block;
