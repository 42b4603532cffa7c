#!/usr/bin/env bash
# Runs a command in a minimal Debian of another version, on a clean clone of this repository's HEAD. Needs root.
#   tools/debian_root.sh [--again] 12|13 [COMMAND [ARGUMENTS]]     (bookworm or trixie are understood as well)
# COMMAND defaults to tools/test.sh. The Debian lies in build/debian-<codename>/; debootstrap makes it if it is missing, and what
# a command installs in it stays. Every call clones anew; --again keeps the clone as the last call left it. Unless a command is
# running, `rm -r build/debian-<codename>` is safe.
# Everything happens in private namespaces: nothing is mounted for the rest of the machine, and however this script ends, its mounts
# and all processes it started are gone.
#   DEPTHROUTE_DEBIAN_ROOTS    folder of the roots; default build/
#   DEPTHROUTE_DEBIAN_MIRROR   package mirror; default the Debian mirror in this machine's apt sources
# Exit status: the command's, or 2 if this machine does not allow it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
clone=depthroute  # below the root

refuse() {
  echo "debian_root.sh: $*" >&2
  exit 2
}

# ---- inside the namespaces
mount_system() { # ROOT
  mount -t proc proc "$1/proc"
  mount -t sysfs -o ro sysfs "$1/sys"
  mount -t tmpfs -o mode=755,nosuid dev "$1/dev"
  local node
  for node in null zero full random urandom tty; do
    touch "$1/dev/$node"
    mount --bind "/dev/$node" "$1/dev/$node"
  done
  mkdir "$1/dev/shm" "$1/dev/pts"
  mount -t tmpfs -o mode=1777,nosuid,nodev shm "$1/dev/shm"
  mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$1/dev/pts"
  ln -s pts/ptmx "$1/dev/ptmx"
  ln -s /proc/self/fd "$1/dev/fd"
  ln -s fd/0 "$1/dev/stdin"
  ln -s fd/1 "$1/dev/stdout"
  ln -s fd/2 "$1/dev/stderr"
}

run_inside() { # ROOT COMMAND...
  local root=$1 name keep=()
  shift
  mount_system "$root"
  for name in $(compgen -e | grep -E -i '^(https?_proxy|no_proxy|DEPTHROUTE_(FUZZ|KILLS|ROBUSTNESS).*|(OMP|OPENBLAS)_.*|TERM)$'); do
    keep+=("$name=${!name}")
  done
  # shellcheck disable=SC2016  # the inner shell's words
  chroot "$root" /usr/bin/env -i HOME=/root USER=root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    "${keep[@]}" /bin/sh -c 'cd "/$0" && exec "$@"' "$clone" "$@"
}

make_root() { # ROOT CODENAME MIRROR [KEYRING]
  local root=$1 options=()
  [[ -z ${4:-} ]] || options=(--keyring="$4")
  rm -rf --one-file-system "$root.incomplete"
  if ! debootstrap --variant=minbase "${options[@]}" "$2" "$root.incomplete" "$3" >"$root.log" 2>&1; then
    echo "debian_root.sh: debootstrap failed, see $root.log: $(tail -n 1 "$root.log")" >&2
    return 1
  fi
  # Copies this machine's apt settings for proxies and date checks. policy-rc.d keeps installed services from starting.
  apt-config dump | grep -E '^Acquire::(https?::.*Proxy|Check-|Retries)' >"$root.incomplete/etc/apt/apt.conf.d/90host" || true
  [[ -z ${4:-} ]] || cp "$4" "$root.incomplete/etc/apt/trusted.gpg.d/"
  printf '#!/bin/sh\nexit 101\n' >"$root.incomplete/usr/sbin/policy-rc.d"
  chmod +x "$root.incomplete/usr/sbin/policy-rc.d"
  mv "$root.incomplete" "$root"
}

if [[ ${1:-} == --inside ]]; then
  shift
  "$@"
  exit
fi

# ---- outside
again=false
if [[ ${1:-} == --again ]]; then
  again=true
  shift
fi
case "${1:-}" in
  12 | bookworm) codename=bookworm ;;
  13 | trixie) codename=trixie ;;
  *) refuse "usage: tools/debian_root.sh [--again] 12|13 [COMMAND [ARGUMENTS]]" ;;
esac
shift
[[ $# -gt 0 ]] || set -- tools/test.sh
[[ $EUID -eq 0 ]] || refuse "only root may mount and change its root: run it through sudo"
command -v apt-get >/dev/null || refuse "there is no apt-get here: run it on a Debian or Ubuntu machine"

# Runs its arguments as the first process of new namespaces, which end with this script.
in_namespaces() {
  setpriv --pdeathsig KILL unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
    bash "$here/tools/debian_root.sh" --inside "$@" <&0 &
  local child=$! status=0
  trap 'kill -KILL $child 2>/dev/null; exit 130' INT
  trap 'kill -KILL $child 2>/dev/null; exit 143' TERM HUP
  wait "$child" || status=$?
  trap - INT TERM HUP
  return $status
}

roots=${DEPTHROUTE_DEBIAN_ROOTS:-$here/build}
mkdir -p "$roots"
root=$(cd "$roots" && pwd)/debian-$codename
exec 9>"$root.lock"
flock --nonblock 9 || refuse "$root is in use by another call of this script"
probe=$(mktemp -d "$root.probe.XXXXXX")
if ! reason=$({ mknod "$probe/null" c 1 3 && : >"$probe/null" && in_namespaces chroot / /bin/true; } 2>&1); then
  rm -rf --one-file-system "$probe"
  refuse "this machine does not let root make devices in $roots, namespaces or mounts (a container?): $(tail -n 1 <<<"$reason")"
fi
rm -rf --one-file-system "$probe"

# Prints a field of the first apt source labelled Debian; empty until apt has its lists.
debian_source() { # FIELD
  apt-get indextargets --format "\$(LABEL)|\$($1)" 'Created-By: Packages' | sed -n 's/^Debian|//p' | sed -n '1p'
}
if [[ ! -d $root ]]; then
  echo "debian_root.sh: making $root"
  export DEBIAN_FRONTEND=noninteractive
  [[ -n $(debian_source REPO_URI) ]] || apt-get update -qq
  command -v debootstrap >/dev/null ||
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends debootstrap debian-archive-keyring >/dev/null; } ||
    refuse "debootstrap is missing and could not be installed"
  mirror=${DEPTHROUTE_DEBIAN_MIRROR:-$(debian_source REPO_URI)}
  [[ -n $mirror ]] || refuse "this machine's apt sources name no Debian mirror: set DEPTHROUTE_DEBIAN_MIRROR to one's address"
  keyring=$(debian_source SIGNED_BY)
  [[ $keyring == /* && -r $keyring ]] || keyring=""
  eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
  for name in http_proxy https_proxy; do [[ -z ${!name:-} ]] || export "${name?}"; done
  in_namespaces make_root "$root" "$codename" "$mirror" "$keyring"
fi
# The network is shared, so are the names of hosts.
for file in /etc/resolv.conf /etc/hosts; do cp -L --remove-destination "$file" "$root$file"; done

if ! $again || [[ ! -d $root/$clone ]]; then
  rm -rf --one-file-system "${root:?}/$clone"
  git clone --quiet --no-hardlinks "$here" "$root/$clone"
  [[ -z $(git -C "$here" status --porcelain) ]] || echo "debian_root.sh: uncommitted changes are left out"
fi
echo "debian_root.sh: Debian $(cat "$root/etc/debian_version"), commit $(git -C "$root/$clone" rev-parse --short HEAD): $*"
in_namespaces run_inside "$root" "$@"
