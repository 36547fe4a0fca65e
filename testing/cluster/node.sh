#!/bin/sh
# node.sh DIRECTORY [ARGUMENT OF node-init.sh...]
#
# Makes a Kubernetes node's cgroups and namespaces, and runs node-init.sh in them until standard input ends. Then it
# removes the cgroups and the directory. The kernel removes everything else with the namespaces: the processes of the pods,
# mounts, links and firewall rules.
set -eu
directory=$1
shift
cgroup=pod-identity-node-$$

clean_up() {
    cd /
    for path in /sys/fs/cgroup/"$cgroup" /sys/fs/cgroup/*/"$cgroup"; do
        tries=100 # the kernel needs a moment to end the processes
        while [ -d "$path" ] && [ "$tries" -gt 0 ]; do
            find "$path" -depth -type d -exec rmdir {} + 2>/dev/null && break
            tries=$((tries - 1))
            sleep 0.05
        done
    done
    rm -rf "$directory"
}
trap clean_up EXIT

unavailable() {
    echo "unavailable: $*"
    exit 1
}

# The kubelet makes the cgroups of pods below this cgroup.
if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
    mkdir "/sys/fs/cgroup/$cgroup" || unavailable "the cgroup /sys/fs/cgroup/$cgroup cannot be made: run as root on a virtual machine or in a privileged container"
    for controller in cpu cpuset memory pids io hugetlb; do
        # In a container, the root cgroup contains processes, and then its controllers may be unavailable.
        echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control || true
        echo "+$controller" >"/sys/fs/cgroup/$cgroup/cgroup.subtree_control" || true
    done 2>/dev/null
    enabled=$(cat "/sys/fs/cgroup/$cgroup/cgroup.subtree_control")
    for controller in cpu cpuset memory pids; do
        case " $enabled " in
            *" $controller "*) ;;
            *) unavailable "cgroup controllers are \"$enabled\", want cpu cpuset memory pids: enable them in /sys/fs/cgroup/cgroup.subtree_control" ;;
        esac
    done
else
    for hierarchy in /sys/fs/cgroup/*/; do
        [ "$(stat -fc %T "$hierarchy")" = cgroupfs ] || continue
        mkdir -p "$hierarchy$cgroup" || unavailable "the cgroup $hierarchy$cgroup cannot be made: run as root on a virtual machine or in a privileged container"
    done
    for file in cpuset.cpus cpuset.mems; do # empty in a new cgroup
        cat "/sys/fs/cgroup/cpuset/$file" >"/sys/fs/cgroup/cpuset/$cgroup/$file"
    done
fi

unshare --net --mount --pid --uts --ipc --fork --kill-child \
    /bin/sh "$(dirname "$0")/node-init.sh" "$directory" "$cgroup" "$@" || true
