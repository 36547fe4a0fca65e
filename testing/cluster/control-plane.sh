#!/bin/sh
# control-plane.sh DIRECTORY API-ADDRESS SERVICE-ADDRESS AGENT-ADDRESS ISSUER [FLAG OF KUBE-APISERVER...]
#
# etcd and kube-apiserver in a network namespace of their own (the caller makes it, with `unshare --net`), until standard
# input ends. The caller holds the other end of that pipe. However the caller ends, this script ends the programs and
# removes the directory. The namespace ends with its last process.
#
# DIRECTORY contains the certificates, keys and tokens, and gets the logs. The programs are found by PATH.
set -eu
directory=$1 api=$2 service=$3 agent=$4 issuer=$5
shift 5
. "$(dirname "$0")/programs.sh"
cd "$directory"

# Every address of a network on lo can be bound, like the addresses of pods. An EndpointSlice accepts these addresses, but
# no loopback address. Not every kernel has the link type `dummy`. The other addresses are the Service `kubernetes` and
# EKS Pod Identity's agent.
ip -batch - <<END
link set lo up
address add $api/16 dev lo
address add $service/32 dev lo
address add $agent/32 dev lo
END

start_etcd
start_api_server "$api" "$service/24" "$issuer" "$@"

echo up
read -r _ || true
kill -KILL "$apiserver" "$etcd" || true
wait || true # the programs ended by the signal
cd / && rm -rf "$directory"
