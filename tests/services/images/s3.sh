#!/bin/sh
# Leads to the S3 server of the test; what the compose file asks of its image's program is not for this one.
exec socat TCP-LISTEN:9000,fork,reuseaddr "TCP:$S3_AT"
