-- Messages that gateways have reserved, for suites whose nonces are short. Never too low.
CREATE TABLE IF NOT EXISTS key_usage (
    uid      VARBINARY(64) NOT NULL,
    version  BIGINT        NOT NULL,
    suite    BIGINT        NOT NULL,
    reserved BIGINT        NOT NULL,
    worn     BIGINT        NOT NULL DEFAULT 0 CHECK (worn IN (0, 1)),
    PRIMARY KEY (uid, version, suite),
    KEY key_usage_worn (worn)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4
