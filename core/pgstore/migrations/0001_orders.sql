-- +goose Up
-- Times are Unix milliseconds, amounts minor units, ids UUIDs.

CREATE TABLE idempotency (
    principal       text NOT NULL,
    key             text NOT NULL,
    fingerprint     text NOT NULL,
    state           text NOT NULL,     -- working, done
    owner           uuid NOT NULL,
    locked_until_ms bigint NOT NULL,
    subject_id      uuid NOT NULL,
    status          integer NOT NULL DEFAULT 0,
    header          jsonb NOT NULL DEFAULT '{}',
    response        bytea,
    created_ms      bigint NOT NULL,
    PRIMARY KEY (principal, key)
);
CREATE INDEX idempotency_age ON idempotency (created_ms);

CREATE TABLE pass_use (
    pass_id   text PRIMARY KEY,
    room      text NOT NULL,
    max_seats integer NOT NULL,
    state     text NOT NULL            -- live, burned
);

-- One row per acquisition of seats, written before the inventory is asked.
CREATE TABLE hold (
    id             uuid PRIMARY KEY,
    principal      text NOT NULL,
    pass_id        text NOT NULL,
    room           text NOT NULL,
    performance_id uuid NOT NULL,
    block          smallint NOT NULL,
    seats          jsonb NOT NULL,      -- JSON array of numbers, ascending
    seat_count     integer NOT NULL,
    state          text NOT NULL,
    until_ms       bigint NOT NULL,
    cap_at_ms      bigint NOT NULL,
    order_id       uuid,
    created_ms     bigint NOT NULL
);
CREATE INDEX hold_pass ON hold (pass_id);
CREATE INDEX hold_order ON hold (order_id) WHERE order_id IS NOT NULL;

CREATE TABLE orders (
    id             uuid PRIMARY KEY,
    principal      text NOT NULL,
    pass_id        text NOT NULL,
    room           text NOT NULL,
    performance_id uuid NOT NULL,
    state          text NOT NULL,
    close_reason   text NOT NULL,
    version        bigint NOT NULL,
    generation     bigint NOT NULL,
    currency       text NOT NULL,
    total          bigint NOT NULL CHECK (total >= 0),
    pin_until_ms   bigint NOT NULL,
    dispute        text NOT NULL DEFAULT '',
    next_at_ms     bigint,            -- when the saga looks at it next; null: only when woken
    created_ms     bigint NOT NULL,
    updated_ms     bigint NOT NULL
);
CREATE INDEX orders_due ON orders (next_at_ms) WHERE next_at_ms IS NOT NULL;
CREATE INDEX orders_principal ON orders (principal, created_ms);

CREATE TABLE order_unit (
    order_id uuid NOT NULL REFERENCES orders (id),
    unit     integer NOT NULL,
    hold_id  uuid NOT NULL,
    block    smallint NOT NULL,
    seat     smallint NOT NULL,
    label    text NOT NULL,
    offer    text NOT NULL,
    price    bigint NOT NULL,
    fee      bigint NOT NULL,
    tax      bigint NOT NULL,
    state    text NOT NULL,
    PRIMARY KEY (order_id, unit)
);

CREATE TABLE order_transition (
    order_id   uuid NOT NULL REFERENCES orders (id),
    seq        bigint NOT NULL,
    from_state text NOT NULL,
    to_state   text NOT NULL,
    event      text NOT NULL,
    cause_id   text NOT NULL,
    at_ms      bigint NOT NULL,
    PRIMARY KEY (order_id, seq),
    UNIQUE (order_id, event, cause_id)
);

-- The right to a seat. Whoever has the row may sell the seat in the inventory.
CREATE TABLE seat_claim (
    performance_id uuid NOT NULL,
    block          smallint NOT NULL,
    seat           smallint NOT NULL,
    order_id       uuid NOT NULL REFERENCES orders (id),
    sold           boolean NOT NULL,
    PRIMARY KEY (performance_id, block, seat)
);
CREATE INDEX seat_claim_order ON seat_claim (order_id);

CREATE TABLE payment (
    id                uuid PRIMARY KEY,
    order_id          uuid NOT NULL REFERENCES orders (id),
    attempt           integer NOT NULL,
    provider          text NOT NULL,
    ref               text,            -- null until the provider answered
    state             text NOT NULL,
    version           bigint NOT NULL,
    currency          text NOT NULL,
    amount            bigint NOT NULL CHECK (amount > 0),
    authorised        bigint NOT NULL,
    captured          bigint NOT NULL,
    refunding         bigint NOT NULL CHECK (refunding >= 0),
    refunded          bigint NOT NULL CHECK (refunded >= 0),
    method            text NOT NULL,
    return_url        text NOT NULL,
    next_action       text NOT NULL,
    failure_code      text NOT NULL,
    capture_before_ms bigint NOT NULL,
    unknown_since_ms  bigint NOT NULL,
    look_at_ms        bigint NOT NULL,
    spare             boolean NOT NULL,
    created_ms        bigint NOT NULL,
    UNIQUE (order_id, attempt),
    CHECK (captured <= authorised),
    CHECK (refunding + refunded <= captured)
);
CREATE UNIQUE INDEX payment_ref ON payment (provider, ref) WHERE ref IS NOT NULL;
CREATE UNIQUE INDEX payment_one_open ON payment (order_id) WHERE state IN ('NEW', 'AUTHORISING', 'ASKED');
CREATE UNIQUE INDEX payment_one_paying ON payment (order_id) WHERE state IN ('AUTHORISED', 'CAPTURING', 'CAPTURED') AND NOT spare;

CREATE TABLE provider_call (
    id         uuid PRIMARY KEY,
    payment_id uuid NOT NULL REFERENCES payment (id),
    kind       text NOT NULL,
    key        text NOT NULL UNIQUE,   -- the provider's idempotency key
    state      text NOT NULL,          -- sent, answered, unknown
    tries      integer NOT NULL,
    first_ms   bigint NOT NULL,
    last_ms    bigint NOT NULL
);

CREATE TABLE webhook (
    provider    text NOT NULL,
    event_id    text NOT NULL,
    type        text NOT NULL,
    ref         text NOT NULL,
    payment_id  uuid,
    body        bytea NOT NULL,
    state       text NOT NULL,         -- open, done
    received_ms bigint NOT NULL,
    PRIMARY KEY (provider, event_id)
);
CREATE INDEX webhook_open ON webhook (received_ms) WHERE state = 'open';

CREATE TABLE refund (
    id         uuid PRIMARY KEY,
    order_id   uuid NOT NULL REFERENCES orders (id),
    payment_id uuid NOT NULL REFERENCES payment (id),
    amount     bigint NOT NULL CHECK (amount > 0),
    state      text NOT NULL,
    reason     text NOT NULL,
    ref        text NOT NULL,
    attempt    integer NOT NULL,
    look_at_ms bigint NOT NULL,
    created_ms bigint NOT NULL
);
CREATE INDEX refund_order ON refund (order_id);

-- A unit is refunded once.
CREATE TABLE refund_unit (
    order_id  uuid NOT NULL REFERENCES orders (id),
    unit      integer NOT NULL,
    refund_id uuid NOT NULL REFERENCES refund (id),
    PRIMARY KEY (order_id, unit)
);

CREATE TABLE ticket (
    id             uuid PRIMARY KEY,
    order_id       uuid NOT NULL REFERENCES orders (id),
    performance_id uuid NOT NULL,
    unit           integer NOT NULL,
    version        bigint NOT NULL,
    block          smallint NOT NULL,
    seat           smallint NOT NULL,
    label          text NOT NULL,
    issued_ms      bigint NOT NULL,
    UNIQUE (order_id, unit)
);
CREATE INDEX ticket_performance ON ticket (performance_id);

CREATE TABLE ticket_revoked (
    ticket_id  uuid NOT NULL REFERENCES ticket (id),
    version    bigint NOT NULL,       -- this version and older ones
    reason     text NOT NULL,
    revoked_ms bigint NOT NULL,
    PRIMARY KEY (ticket_id, version)
);

-- A queue: rows are deleted once they are published, and vacuumed soon after.
CREATE TABLE outbox (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shard       integer NOT NULL,
    topic       text NOT NULL,
    key         text NOT NULL,
    type        text NOT NULL,
    version     bigint NOT NULL,
    generation  bigint NOT NULL,
    subject     uuid NOT NULL,
    traceparent text NOT NULL,
    at_ms       bigint NOT NULL,
    payload     jsonb NOT NULL
);
ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX outbox_shard ON outbox (shard, id);

-- What each consumer of the bus inside the process has handled of the outbox.
CREATE TABLE bus_consumer (
    consumer text NOT NULL,
    topic    text NOT NULL,
    PRIMARY KEY (consumer, topic)
);
CREATE TABLE bus_handled (
    outbox_id bigint NOT NULL,
    consumer  text NOT NULL,
    PRIMARY KEY (outbox_id, consumer)
);

CREATE TABLE inbox (
    consumer text NOT NULL,
    dedupe   text NOT NULL,
    at_ms    bigint NOT NULL,
    PRIMARY KEY (consumer, dedupe)
);
CREATE INDEX inbox_age ON inbox (at_ms);

CREATE TABLE projection_version (
    consumer   text NOT NULL,
    key        text NOT NULL,
    generation bigint NOT NULL,
    version    bigint NOT NULL,
    PRIMARY KEY (consumer, key)
);

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
