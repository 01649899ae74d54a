-- The build service's memory: what was delivered, what is built, and what was said while building.
-- Times are microseconds since 1970, UTC.
CREATE TABLE deliveries (
    project   TEXT   NOT NULL,
    delivery  TEXT   NOT NULL,
    event     TEXT   NOT NULL,
    reference TEXT   NOT NULL,
    again     BIGINT NOT NULL,
    received  BIGINT NOT NULL,
    state     TEXT   NOT NULL CHECK (state IN ('received', 'queued', 'ignored')),
    reason    TEXT,
    build     TEXT REFERENCES builds (id),
    PRIMARY KEY (project, delivery)
);
CREATE INDEX deliveries_received ON deliveries (received) WHERE state = 'received';

CREATE TABLE builds (
    id          TEXT   NOT NULL PRIMARY KEY,
    project     TEXT   NOT NULL,
    reference   TEXT   NOT NULL,
    commit_id   TEXT   NOT NULL,
    destination TEXT   NOT NULL,
    state       TEXT   NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed')),
    attempt     BIGINT NOT NULL,
    lease_until BIGINT,
    created     BIGINT NOT NULL,
    started     BIGINT,
    finished    BIGINT,
    outcome     TEXT,
    failure     TEXT,
    -- A project that moves to another registry is built there too.
    UNIQUE (project, reference, commit_id, destination)
);
CREATE INDEX builds_waiting ON builds (created) WHERE state IN ('queued', 'running');

CREATE TABLE events (
    build TEXT   NOT NULL REFERENCES builds (id),
    seq   BIGINT NOT NULL,
    at    BIGINT NOT NULL,
    body  TEXT   NOT NULL,
    PRIMARY KEY (build, seq)
);
