-- The site: its own wrapped keys, the decoy that unknown AppKeys are checked against, and the
-- revision that every change of a document raises. One statement in each file: MySQL does not roll back a change of the schema.
CREATE TABLE IF NOT EXISTS site (
    id         BIGINT        NOT NULL PRIMARY KEY CHECK (id = 1),
    revision   BIGINT        NOT NULL,
    site_keys  BLOB          NOT NULL,
    decoy_id   VARBINARY(64) NOT NULL,
    decoy_body BLOB          NOT NULL,
    decoy_mac  VARBINARY(32) NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4
