-- Audit records: a chain for each writer. `body` is what the MAC is over; every other column is an index on it.
CREATE TABLE IF NOT EXISTS audit (
    writer   VARBINARY(64) NOT NULL,
    sequence BIGINT        NOT NULL,
    at       BIGINT        NOT NULL,
    event    VARBINARY(32) NOT NULL,
    body     MEDIUMBLOB    NOT NULL,
    mac      VARBINARY(32) NOT NULL,
    PRIMARY KEY (writer, sequence),
    KEY audit_at (at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4
