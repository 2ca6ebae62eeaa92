#!/bin/sh
# The accounts of manager and gateways, each with what it needs and no more (docs/keystore.md). May be
# repeated: passwords are set anew.
set -eu
mariadb --socket=/run/mysqld/mysqld.sock --user=root <<SQL
CREATE USER IF NOT EXISTS 'sealwire_gateway'@'localhost';
ALTER USER 'sealwire_gateway'@'localhost' IDENTIFIED BY '$DB_GATEWAY_PASSWORD';
GRANT SELECT ON sealwire.* TO 'sealwire_gateway'@'localhost';
GRANT INSERT, UPDATE ON sealwire.key_usage TO 'sealwire_gateway'@'localhost';
GRANT INSERT, UPDATE, DELETE ON sealwire.token TO 'sealwire_gateway'@'localhost';

CREATE USER IF NOT EXISTS 'sealwire_manager'@'localhost';
ALTER USER 'sealwire_manager'@'localhost' IDENTIFIED BY '$DB_MANAGER_PASSWORD';
GRANT SELECT ON sealwire.* TO 'sealwire_manager'@'localhost';
GRANT INSERT, UPDATE ON sealwire.site TO 'sealwire_manager'@'localhost';
GRANT INSERT, UPDATE ON sealwire.document TO 'sealwire_manager'@'localhost';
GRANT INSERT, UPDATE, DELETE ON sealwire.wrapped_key TO 'sealwire_manager'@'localhost';
GRANT INSERT, UPDATE, DELETE ON sealwire.root_rotation TO 'sealwire_manager'@'localhost';
GRANT UPDATE (worn), DELETE ON sealwire.key_usage TO 'sealwire_manager'@'localhost';
SQL
echo "accounts are in place"
