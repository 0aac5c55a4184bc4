-- +goose Up
-- Times are Unix milliseconds, amounts minor units, ids UUIDs as text.

CREATE TABLE idempotency (
    principal       TEXT NOT NULL,
    key             TEXT NOT NULL,
    fingerprint     TEXT NOT NULL,
    state           TEXT NOT NULL,     -- working, done
    owner           TEXT NOT NULL,
    locked_until_ms INTEGER NOT NULL,
    subject_id      TEXT NOT NULL,
    status          INTEGER NOT NULL DEFAULT 0,
    header          TEXT NOT NULL DEFAULT '{}',
    response        BLOB,
    created_ms      INTEGER NOT NULL,
    PRIMARY KEY (principal, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_age ON idempotency (created_ms);

CREATE TABLE pass_use (
    pass_id   TEXT PRIMARY KEY,
    room      TEXT NOT NULL,
    max_seats INTEGER NOT NULL,
    state     TEXT NOT NULL            -- live, burned
) STRICT, WITHOUT ROWID;

-- One row per acquisition of seats, written before the inventory is asked.
CREATE TABLE hold (
    id             TEXT PRIMARY KEY,
    principal      TEXT NOT NULL,
    pass_id        TEXT NOT NULL,
    room           TEXT NOT NULL,
    performance_id TEXT NOT NULL,
    block          INTEGER NOT NULL,
    seats          TEXT NOT NULL,      -- JSON array of numbers, ascending
    seat_count     INTEGER NOT NULL,
    state          TEXT NOT NULL,
    until_ms       INTEGER NOT NULL,
    cap_at_ms      INTEGER NOT NULL,
    order_id       TEXT,
    created_ms     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX hold_pass ON hold (pass_id);
CREATE INDEX hold_order ON hold (order_id) WHERE order_id IS NOT NULL;

CREATE TABLE orders (
    id             TEXT PRIMARY KEY,
    principal      TEXT NOT NULL,
    pass_id        TEXT NOT NULL,
    room           TEXT NOT NULL,
    performance_id TEXT NOT NULL,
    state          TEXT NOT NULL,
    close_reason   TEXT NOT NULL,
    version        INTEGER NOT NULL,
    generation     INTEGER NOT NULL,
    currency       TEXT NOT NULL,
    total          INTEGER NOT NULL CHECK (total >= 0),
    pin_until_ms   INTEGER NOT NULL,
    dispute        TEXT NOT NULL DEFAULT '',
    next_at_ms     INTEGER,            -- when the saga looks at it next; null: only when woken
    created_ms     INTEGER NOT NULL,
    updated_ms     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX orders_due ON orders (next_at_ms) WHERE next_at_ms IS NOT NULL;
CREATE INDEX orders_principal ON orders (principal, created_ms);

CREATE TABLE order_unit (
    order_id TEXT NOT NULL REFERENCES orders (id),
    unit     INTEGER NOT NULL,
    hold_id  TEXT NOT NULL,
    block    INTEGER NOT NULL,
    seat     INTEGER NOT NULL,
    label    TEXT NOT NULL,
    offer    TEXT NOT NULL,
    price    INTEGER NOT NULL,
    fee      INTEGER NOT NULL,
    tax      INTEGER NOT NULL,
    state    TEXT NOT NULL,
    PRIMARY KEY (order_id, unit)
) STRICT, WITHOUT ROWID;

CREATE TABLE order_transition (
    order_id   TEXT NOT NULL REFERENCES orders (id),
    seq        INTEGER NOT NULL,
    from_state TEXT NOT NULL,
    to_state   TEXT NOT NULL,
    event      TEXT NOT NULL,
    cause_id   TEXT NOT NULL,
    at_ms      INTEGER NOT NULL,
    PRIMARY KEY (order_id, seq),
    UNIQUE (order_id, event, cause_id)
) STRICT, WITHOUT ROWID;

-- The right to a seat. Whoever has the row may sell the seat in the inventory.
CREATE TABLE seat_claim (
    performance_id TEXT NOT NULL,
    block          INTEGER NOT NULL,
    seat           INTEGER NOT NULL,
    order_id       TEXT NOT NULL REFERENCES orders (id),
    sold           INTEGER NOT NULL CHECK (sold IN (0, 1)),
    PRIMARY KEY (performance_id, block, seat)
) STRICT, WITHOUT ROWID;
CREATE INDEX seat_claim_order ON seat_claim (order_id);

CREATE TABLE payment (
    id                TEXT PRIMARY KEY,
    order_id          TEXT NOT NULL REFERENCES orders (id),
    attempt           INTEGER NOT NULL,
    provider          TEXT NOT NULL,
    ref               TEXT,            -- null until the provider answered
    state             TEXT NOT NULL,
    version           INTEGER NOT NULL,
    currency          TEXT NOT NULL,
    amount            INTEGER NOT NULL CHECK (amount > 0),
    authorised        INTEGER NOT NULL,
    captured          INTEGER NOT NULL,
    refunding         INTEGER NOT NULL CHECK (refunding >= 0),
    refunded          INTEGER NOT NULL CHECK (refunded >= 0),
    method            TEXT NOT NULL,
    return_url        TEXT NOT NULL,
    next_action       TEXT NOT NULL,
    failure_code      TEXT NOT NULL,
    capture_before_ms INTEGER NOT NULL,
    unknown_since_ms  INTEGER NOT NULL,
    look_at_ms        INTEGER NOT NULL,
    spare             INTEGER NOT NULL CHECK (spare IN (0, 1)),
    created_ms        INTEGER NOT NULL,
    UNIQUE (order_id, attempt),
    CHECK (captured <= authorised),
    CHECK (refunding + refunded <= captured)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX payment_ref ON payment (provider, ref) WHERE ref IS NOT NULL;
CREATE UNIQUE INDEX payment_one_open ON payment (order_id) WHERE state IN ('NEW', 'AUTHORISING', 'ASKED');
CREATE UNIQUE INDEX payment_one_paying ON payment (order_id) WHERE state IN ('AUTHORISED', 'CAPTURING', 'CAPTURED') AND spare = 0;

CREATE TABLE provider_call (
    id         TEXT PRIMARY KEY,
    payment_id TEXT NOT NULL REFERENCES payment (id),
    kind       TEXT NOT NULL,
    key        TEXT NOT NULL UNIQUE,   -- the provider's idempotency key
    state      TEXT NOT NULL,          -- sent, answered, unknown
    tries      INTEGER NOT NULL,
    first_ms   INTEGER NOT NULL,
    last_ms    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE webhook (
    provider    TEXT NOT NULL,
    event_id    TEXT NOT NULL,
    type        TEXT NOT NULL,
    ref         TEXT NOT NULL,
    payment_id  TEXT,
    body        BLOB NOT NULL,
    state       TEXT NOT NULL,         -- open, done
    received_ms INTEGER NOT NULL,
    PRIMARY KEY (provider, event_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX webhook_open ON webhook (received_ms) WHERE state = 'open';

CREATE TABLE refund (
    id         TEXT PRIMARY KEY,
    order_id   TEXT NOT NULL REFERENCES orders (id),
    payment_id TEXT NOT NULL REFERENCES payment (id),
    amount     INTEGER NOT NULL CHECK (amount > 0),
    state      TEXT NOT NULL,
    reason     TEXT NOT NULL,
    ref        TEXT NOT NULL,
    attempt    INTEGER NOT NULL,
    look_at_ms INTEGER NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX refund_order ON refund (order_id);

-- A unit is refunded once.
CREATE TABLE refund_unit (
    order_id  TEXT NOT NULL REFERENCES orders (id),
    unit      INTEGER NOT NULL,
    refund_id TEXT NOT NULL REFERENCES refund (id),
    PRIMARY KEY (order_id, unit)
) STRICT, WITHOUT ROWID;

CREATE TABLE ticket (
    id             TEXT PRIMARY KEY,
    order_id       TEXT NOT NULL REFERENCES orders (id),
    performance_id TEXT NOT NULL,
    unit           INTEGER NOT NULL,
    version        INTEGER NOT NULL,
    block          INTEGER NOT NULL,
    seat           INTEGER NOT NULL,
    label          TEXT NOT NULL,
    issued_ms      INTEGER NOT NULL,
    UNIQUE (order_id, unit)
) STRICT, WITHOUT ROWID;
CREATE INDEX ticket_performance ON ticket (performance_id);

CREATE TABLE ticket_revoked (
    ticket_id  TEXT NOT NULL REFERENCES ticket (id),
    version    INTEGER NOT NULL,       -- this version and older ones
    reason     TEXT NOT NULL,
    revoked_ms INTEGER NOT NULL,
    PRIMARY KEY (ticket_id, version)
) STRICT, WITHOUT ROWID;

-- A queue: rows are deleted once they are published. AUTOINCREMENT, so that an
-- id is never used twice.
CREATE TABLE outbox (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    shard       INTEGER NOT NULL,
    topic       TEXT NOT NULL,
    key         TEXT NOT NULL,
    type        TEXT NOT NULL,
    version     INTEGER NOT NULL,
    generation  INTEGER NOT NULL,
    subject     TEXT NOT NULL,
    traceparent TEXT NOT NULL,
    at_ms       INTEGER NOT NULL,
    payload     TEXT NOT NULL
) STRICT;
CREATE INDEX outbox_shard ON outbox (shard, id);

-- What each consumer of the bus inside the process has handled of the outbox.
CREATE TABLE bus_consumer (
    consumer TEXT NOT NULL,
    topic    TEXT NOT NULL,
    PRIMARY KEY (consumer, topic)
) STRICT, WITHOUT ROWID;
CREATE TABLE bus_handled (
    outbox_id INTEGER NOT NULL,
    consumer  TEXT NOT NULL,
    PRIMARY KEY (outbox_id, consumer)
) STRICT, WITHOUT ROWID;

CREATE TABLE inbox (
    consumer TEXT NOT NULL,
    dedupe   TEXT NOT NULL,
    at_ms    INTEGER NOT NULL,
    PRIMARY KEY (consumer, dedupe)
) STRICT, WITHOUT ROWID;
CREATE INDEX inbox_age ON inbox (at_ms);

CREATE TABLE projection_version (
    consumer   TEXT NOT NULL,
    key        TEXT NOT NULL,
    generation INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    PRIMARY KEY (consumer, key)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE projection_version;
DROP TABLE inbox;
DROP TABLE bus_handled;
DROP TABLE bus_consumer;
DROP TABLE outbox;
DROP TABLE ticket_revoked;
DROP TABLE ticket;
DROP TABLE refund_unit;
DROP TABLE refund;
DROP TABLE webhook;
DROP TABLE provider_call;
DROP TABLE payment;
DROP TABLE seat_claim;
DROP TABLE order_transition;
DROP TABLE order_unit;
DROP TABLE orders;
DROP TABLE hold;
DROP TABLE pass_use;
DROP TABLE idempotency;
