# Starts etcd and kube-apiserver, for control-plane.sh and node-init.sh. The working directory contains the certificates,
# keys and tokens, and gets the logs.

# start_etcd: sets `etcd` to the process id.
start_etcd() {
    # The data lives as long as one test, so etcd does not wait for the disk. Addresses instead of names: a machine
    # without /etc/hosts cannot resolve localhost here, where no DNS server is reached.
    peer=http://127.0.0.1:2380 client=http://127.0.0.1:2379
    etcd --name default --data-dir "$PWD/etcd" --unsafe-no-fsync --log-level warn \
        --listen-client-urls "$client" --advertise-client-urls "$client" \
        --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "default=$peer" \
        >etcd.log 2>&1 </dev/null &
    etcd=$!
}

# start_api_server ADDRESS SERVICE-RANGES ISSUER [FLAG...]: sets `apiserver` to the process id.
#
# - enable-aggregator-routing: webhooks by Service are called at the addresses of the EndpointSlice. Without it the call
#   goes to the Service's cluster IP, which only kube-proxy serves.
# - allow-privileged, NodeRestriction, Node: as in clusters that people run.
start_api_server() {
    api_address=$1 service_ranges=$2 api_issuer=$3
    shift 3
    kube-apiserver --etcd-servers http://127.0.0.1:2379 --bind-address 0.0.0.0 --secure-port 443 \
        --advertise-address "$api_address" --cert-dir "$PWD" --tls-cert-file api.crt --tls-private-key-file api.key \
        --token-auth-file tokens.csv --service-account-issuer "$api_issuer" \
        --service-account-signing-key-file accounts.key --service-account-key-file accounts.key \
        --service-cluster-ip-range "$service_ranges" --authorization-mode Node,RBAC \
        --enable-admission-plugins NodeRestriction --allow-privileged=true --enable-aggregator-routing=true "$@" \
        >>kube-apiserver.log 2>&1 </dev/null &
    apiserver=$!
}
