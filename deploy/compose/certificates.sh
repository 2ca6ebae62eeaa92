#!/bin/sh
# Makes or renews the trial's certificates, and hands each part what is its own: nobody but this script has
# the authority's key.
set -eu
sealwire tls init --dir /tls/authority --gateway-name haproxy --gateway-name localhost

# give PART FILE…: moved into place whole, as the parts look at the files all the time. A key comes before
# its certificate: who reads in between finds a pair that does not fit, and keeps the old one.
give() {
    part=$1
    shift
    for file in authority.pem "$@"; do
        rm -f "/tls/$part/.new"
        cp "/tls/authority/$file" "/tls/$part/.new"
        chown 10001:10001 "/tls/$part/.new"
        mv -f "/tls/$part/.new" "/tls/$part/$file"
    done
}
give engine engine.key engine.pem
give manager manager.key manager.pem
give gateway gateway.key gateway.pem gateway-clients.key gateway-clients.pem
give client
