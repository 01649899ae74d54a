-- The first schema. Times are microseconds since 1970 (UTC); every id and digest is text.
-- Object files hold bytes only: whether something exists is decided here.

CREATE TABLE blob (
    digest    TEXT   NOT NULL PRIMARY KEY,
    size      BIGINT NOT NULL,
    state     TEXT   NOT NULL,          -- live | condemned | quarantined
    seen      BIGINT NOT NULL,          -- last push, mount, or question of a pusher: the sweep's grace starts here
    condemned BIGINT
);

CREATE TABLE repository (
    name    TEXT   NOT NULL PRIMARY KEY,
    created BIGINT NOT NULL
);

-- Which repository may hand out which blob.
CREATE TABLE repository_blob (
    repository TEXT NOT NULL,
    digest     TEXT NOT NULL,
    PRIMARY KEY (repository, digest)
);
CREATE INDEX repository_blob_digest ON repository_blob (digest);

CREATE TABLE manifest_bytes (
    digest TEXT NOT NULL PRIMARY KEY,
    bytes  BLOB NOT NULL
);

CREATE TABLE manifest (
    repository    TEXT   NOT NULL,
    digest        TEXT   NOT NULL,
    media_type    TEXT   NOT NULL,
    size          BIGINT NOT NULL,
    artifact_type TEXT,
    subject       TEXT,
    annotations   TEXT   NOT NULL,      -- JSON object
    pushed        BIGINT,               -- unknown means keep
    dropped       BIGINT,               -- restorable until the sweep
    drop_reason   TEXT,
    PRIMARY KEY (repository, digest)
);
CREATE INDEX manifest_subject ON manifest (repository, subject, digest) WHERE subject IS NOT NULL;
CREATE INDEX manifest_dropped ON manifest (dropped) WHERE dropped IS NOT NULL;
CREATE INDEX manifest_digest ON manifest (digest);

CREATE TABLE manifest_part (
    repository TEXT NOT NULL,
    manifest   TEXT NOT NULL,
    part       TEXT NOT NULL,
    kind       TEXT NOT NULL,           -- blob | manifest
    PRIMARY KEY (repository, manifest, part)
);
CREATE INDEX manifest_part_part ON manifest_part (part);

CREATE TABLE tag (
    repository TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    digest     TEXT   NOT NULL,
    moved      BIGINT,
    PRIMARY KEY (repository, name)
);
CREATE INDEX tag_digest ON tag (repository, digest);

CREATE TABLE dropped_tag (
    repository TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    digest     TEXT   NOT NULL,
    moved      BIGINT,
    dropped    BIGINT NOT NULL,
    reason     TEXT   NOT NULL
);
CREATE INDEX dropped_tag_name ON dropped_tag (repository, name, dropped);

-- A pin holds a tag where it is and its digest in place.
CREATE TABLE pin (
    repository TEXT   NOT NULL,
    name       TEXT   NOT NULL,         -- a tag, or a digest
    digest     TEXT   NOT NULL,
    kind       TEXT   NOT NULL,         -- release | manual
    reason     TEXT   NOT NULL,
    made       BIGINT NOT NULL,
    PRIMARY KEY (repository, name)
);
CREATE INDEX pin_digest ON pin (repository, digest);

-- The highest counter of each channel head ever admitted; it outlives the tag.
CREATE TABLE channel (
    repository TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    counter    BIGINT NOT NULL,
    digest     TEXT   NOT NULL,
    lists      TEXT   NOT NULL,         -- JSON array of the digests that the head names
    PRIMARY KEY (repository, name)
);

-- What hosts reported as running, prepared or needed for the way back.
CREATE TABLE host_use (
    node       TEXT   NOT NULL,
    app        TEXT   NOT NULL,
    repository TEXT   NOT NULL,
    digest     TEXT   NOT NULL,
    why        TEXT   NOT NULL,
    reported   BIGINT NOT NULL,
    PRIMARY KEY (node, app, repository, digest)
);
CREATE INDEX host_use_repository ON host_use (repository, digest);

CREATE TABLE event (
    id         TEXT   NOT NULL PRIMARY KEY,
    at         BIGINT NOT NULL,
    kind       TEXT   NOT NULL,
    repository TEXT   NOT NULL,
    subject    TEXT   NOT NULL,
    detail     TEXT   NOT NULL
);
CREATE INDEX event_subject ON event (repository, subject, id);
