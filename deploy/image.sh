#!/usr/bin/env bash
# Builds a container image of one program, without a container engine: deploy/image.sh PROGRAM IMAGE ARCHIVE
#
#   cargo build --release -p pod-identity-webhook
#   deploy/image.sh target/release/pod-identity-webhook pod-identity-webhook:0.1.0 webhook.tar
#
# Import the archive with `docker load`, `podman load` or `ctr images import`. The image contains only the program and the C
# library of this machine, and no shell. It runs as an unprivileged user. The webhook is /webhook in the image, and also
# /go-runner, the entry point in AWS's manifests.
set -euo pipefail
if (($# != 3)); then
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
program=$1 image=$2 archive=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
name=$(basename "$program")
name=${name#pod-identity-}
install -D -m 0755 "$program" "$root/$name"
if [[ $name == webhook ]]; then
    ln -s webhook "$root/go-runner"
fi
# Copies the libraries and the loader, which ldd prints with a path.
ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
    install -D -m 0755 "$(readlink -f "$library")" "$root$library"
done

# Reproducible: the same content makes the same image.
tar --create --file "$work/layer.tar" --directory "$root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner .
layer=$(sha256sum "$work/layer.tar" | cut -d ' ' -f 1)
case $(uname -m) in
    x86_64) architecture=amd64 ;;
    aarch64) architecture=arm64 ;;
    *) architecture=$(uname -m) ;;
esac
cat >"$work/config.json" <<JSON
{"architecture":"$architecture","os":"linux","config":{"Entrypoint":["/$name"],"User":"65532:65532"},"rootfs":{"type":"layers","diff_ids":["sha256:$layer"]}}
JSON
cat >"$work/manifest.json" <<JSON
[{"Config":"config.json","RepoTags":["$image"],"Layers":["layer.tar"]}]
JSON
tar --create --file "$archive" --directory "$work" --mtime=@0 --owner=0 --group=0 --numeric-owner manifest.json config.json layer.tar
echo "$archive: $image, $(du -h "$archive" | cut -f 1)"
