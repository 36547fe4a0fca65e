#!/bin/sh
# node-init.sh DIRECTORY CGROUP ADDRESS IPV6-ADDRESS SERVICE-RANGES POD-RANGES CNI-DIRECTORY ISSUER [FLAG OF KUBE-APISERVER...]
#
# The first process of a Kubernetes node's namespaces. When it ends, the kernel kills all others. It reads commands from
# standard input, answers each with a line, and ends with standard input.
set -eu
directory=$1 cgroup=$2 address=$3 address6=$4 services=$5 pods=$6 cni=$7 issuer=$8
shift 8
sources=$(cd "$(dirname "$0")" && pwd)
. "$sources/programs.sh"
read -r pid _ </proc/self/stat # the process id outside: /proc is still the one of the machine

# Files of the node: the default paths, in memory, invisible to the machine. The kubelet and containerd pass mounts on to
# pods, so mounts are shared in this namespace.
mount --make-rshared /
mount -t proc proc /proc
for path in /run /var/lib /var/log; do
    mount -t tmpfs -o mode=755 tmpfs "$path"
done
mkdir -p /run/lock /run/node /run/cni/bin /run/cni/conf /var/lib/kubelet /var/log/pods /var/log/containers
mount --bind "$directory" /run/node
ln -s "$cni"/* "$sources/node/no-dad.sh" /run/cni/bin
cp "$sources/node/cni.json" /run/cni/conf/10-node.conflist
mount --bind /var/lib/kubelet /var/lib/kubelet
cd "$directory"

# The kubelet changes these parameters of the whole machine. Here it reads its own values, and changes nothing.
for parameter in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    file=/run/node-$(echo "${parameter%=*}" | tr / -)
    echo "${parameter#*=}" >"$file"
    mount --bind "$file" "/proc/sys/${parameter%=*}"
done

# The link leads nowhere: its other end is here too. It has the node's addresses and the default routes, as eth0 of a
# machine. Not every kernel has the link type `dummy`.
echo node >/proc/sys/kernel/hostname
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
ip -batch - <<END
link set lo up
link add eth0 type veth peer name eth0-peer
link set eth0-peer up
link set eth0 up
address add $address/24 dev eth0
address add $address6/64 dev eth0 nodad
route add default via ${address%.*}.254
route add ::/0 via ${address6%::*}::ffff dev eth0
END

# start PROGRAM [FLAG...]: the log is PROGRAM.log.
start() {
    "$@" >"$1.log" 2>&1 </dev/null &
}

start_etcd
start_api_server "$address" "$services" "$issuer" "$@"
start containerd --config "$sources/node/containerd.toml"
{
    until ctr version >/dev/null 2>&1; do sleep 0.1; done
    for image in images/*.tar; do ctr --namespace k8s.io images import "$image"; done
} >images.log 2>&1 </dev/null &
images=$!
echo "up $pid"

while read -r command; do
    case $command in
        start-node) # the API server is ready
            wait "$images" || true # images.log has the error
            start kube-controller-manager --kubeconfig admin.kubeconfig --leader-elect=false --bind-address 127.0.0.1 \
                --root-ca-file ca.crt --service-account-private-key-file accounts.key
            start kube-scheduler --kubeconfig admin.kubeconfig --leader-elect=false --bind-address 127.0.0.1
            { cat "$sources/node/kubelet.yaml" && echo "cgroupRoot: /$cgroup"; } >kubelet.yaml
            start kubelet --config kubelet.yaml --kubeconfig kubelet.kubeconfig --hostname-override node \
                --node-ip "$address,$address6"
            # Without the conntrack flags it changes a limit of the whole machine.
            start kube-proxy --kubeconfig admin.kubeconfig --hostname-override node --proxy-mode nftables \
                --cluster-cidr "$pods" --conntrack-max-per-core 0 --conntrack-min 0
            ;;
        pause-api-server) kill -STOP "$apiserver" ;;
        resume-api-server) kill -CONT "$apiserver" ;;
        stop-api-server)
            kill -KILL "$apiserver"
            wait "$apiserver" 2>/dev/null || true
            ;;
        start-api-server) start_api_server "$address" "$services" "$issuer" "$@" ;;
    esac
    echo "done"
done
