#!/bin/sh
# control-plane.sh DIRECTORY API-ADDRESS SERVICE-ADDRESS AGENT-ADDRESS [FLAG OF KUBE-APISERVER...]
#
# etcd and kube-apiserver in a network namespace of their own (whoever starts this makes it, with `unshare --net`), until
# standard input ends. Whoever started it holds the other end of that pipe: however they end, this ends the programs,
# removes the directory, and the namespace goes with the last process in it.
#
# DIRECTORY holds the certificates, keys and tokens, and gets the logs. The programs are found by PATH.
set -eu
directory=$1 api=$2 service=$3 agent=$4
shift 4
cd "$directory"

# A whole network on lo is this namespace's own: every address in it can be bound, as those of pods are. EndpointSlices
# take such an address, and would take no loopback one. The kernel has no `dummy` link everywhere; lo is always there.
# The others are the Service `kubernetes` and EKS Pod Identity's agent.
ip -batch - <<END
link set lo up
address add $api/16 dev lo
address add $service/32 dev lo
address add $agent/32 dev lo
END

# The data lives as long as one test, so etcd does not wait for the disk. Addresses and not names: a machine without
# /etc/hosts cannot resolve localhost here, where no DNS server is reached.
peer=http://127.0.0.1:2380 client=http://127.0.0.1:2379
etcd --name default --data-dir "$directory/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls "$client" --advertise-client-urls "$client" \
    --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "default=$peer" >etcd.log 2>&1 &
etcd=$!

# - enable-aggregator-routing: webhooks by Service are called at the addresses of the EndpointSlice. Without it the call
#   goes to the Service's cluster IP, which only kube-proxy would answer for.
# - service-account-issuer: the API server's own URL, so that the keys are found by discovery.
# - allow-privileged, NodeRestriction, Node: as in clusters that people run.
kube-apiserver --etcd-servers "$client" --bind-address 0.0.0.0 --secure-port 443 --advertise-address "$api" \
    --cert-dir "$directory" --tls-cert-file api.crt --tls-private-key-file api.key --token-auth-file tokens.csv \
    --service-account-issuer "https://$api" --service-account-signing-key-file accounts.key \
    --service-account-key-file accounts.key --service-cluster-ip-range "$service/24" \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged=true \
    --enable-aggregator-routing=true "$@" >kube-apiserver.log 2>&1 &
apiserver=$!

echo up
read -r _ || true
kill -KILL "$apiserver" "$etcd" || true
wait || true # an end by a signal is what was asked for
cd / && rm -rf "$directory"
