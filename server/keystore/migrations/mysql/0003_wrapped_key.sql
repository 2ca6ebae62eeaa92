-- Wrapped keys, a row for each version. `closed`: to suites whose messages are counted, since the
-- database was put back from a backup.
CREATE TABLE IF NOT EXISTS wrapped_key (
    uid     VARBINARY(64)  NOT NULL,
    version BIGINT         NOT NULL,
    `blob`  VARBINARY(255) NOT NULL,
    closed  BIGINT         NOT NULL DEFAULT 0 CHECK (closed IN (0, 1)),
    PRIMARY KEY (uid, version)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4
