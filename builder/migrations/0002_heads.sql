-- How far each channel has come that the service looks after: a registry that serves an older head is not believed.
CREATE TABLE heads (
    destination TEXT   NOT NULL,
    channel     TEXT   NOT NULL,
    counter     BIGINT NOT NULL,
    -- Digest of the head that had this counter.
    head        TEXT   NOT NULL,
    PRIMARY KEY (destination, channel)
);
