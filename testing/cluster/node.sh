#!/bin/sh
# node.sh DIRECTORY [ARGUMENT OF node-init.sh...]
#
# Makes a Kubernetes node's cgroups and namespaces, and runs node-init.sh in them until standard input ends. Then it
# removes the cgroups and the directory. The kernel removes everything else with the namespaces: the processes of the pods,
# mounts, links and firewall rules.
set -eu
directory=$1
shift
root=/sys/fs/cgroup
cgroup=pod-identity-node-$$
cgroup_hint="the cgroup $cgroup cannot be made in $root: run as root on a virtual machine or in a privileged container"

clean_up() {
    cd /
    for path in "$root/$cgroup" "$root"/*/"$cgroup"; do
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
if [ "$(stat -fc %T "$root")" = cgroup2fs ]; then
    controllers="cpu cpuset memory pids"
    enable() { # enable CGROUP: its children get the controllers
        for controller in $controllers io hugetlb; do
            echo "+$controller" >"$1/cgroup.subtree_control" || true
        done 2>/dev/null
    }
    mkdir "$root/$cgroup" || unavailable "$cgroup_hint"
    enable "$root"
    if ! grep -qw memory "$root/cgroup.subtree_control"; then
        # A container's root cgroup contains the container's processes. Its children get controllers only without them.
        mkdir -p "$root/init"
        while read -r process; do
            echo "$process" >"$root/init/cgroup.procs" || true
        done <"$root/cgroup.procs" 2>/dev/null
        enable "$root"
    fi
    enable "$root/$cgroup"
    enabled=$(cat "$root/$cgroup/cgroup.subtree_control")
    for controller in $controllers; do
        case " $enabled " in
            *" $controller "*) ;;
            *) unavailable "cgroup controllers are \"$enabled\", want $controllers: enable them in $root/cgroup.subtree_control" ;;
        esac
    done
else
    for hierarchy in "$root"/*/; do
        [ "$(stat -fc %T "$hierarchy")" = cgroupfs ] || continue
        mkdir -p "$hierarchy$cgroup" || unavailable "$cgroup_hint"
    done
    for file in cpuset.cpus cpuset.mems; do # empty in a new cgroup
        cat "$root/cpuset/$file" >"$root/cpuset/$cgroup/$file"
    done
fi

unshare --net --mount --pid --uts --ipc --fork --kill-child \
    /bin/sh "$(dirname "$0")/node-init.sh" "$directory" "$cgroup" "$@" || true
