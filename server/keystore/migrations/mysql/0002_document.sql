-- Signed documents. `body` is what the MAC is over; every other column is an index on it, and is
-- compared with it after each read. Names are bytes: they are compared as such, in any language.
CREATE TABLE IF NOT EXISTS document (
    kind     VARBINARY(16)  NOT NULL,
    id       VARBINARY(64)  NOT NULL,
    revision BIGINT         NOT NULL,
    name     VARBINARY(128) NOT NULL,
    number   BIGINT,
    due      BIGINT,
    body     MEDIUMBLOB     NOT NULL,
    mac      VARBINARY(32)  NOT NULL,
    PRIMARY KEY (kind, id),
    UNIQUE KEY document_revision (revision),
    UNIQUE KEY document_name (kind, name),
    UNIQUE KEY document_number (kind, number),
    KEY document_due (due)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4
