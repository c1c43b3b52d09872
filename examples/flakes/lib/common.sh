# Functions of all scripts. They take nothing from cluster.nix but by files of /var/lib/nico/member.
# root is for tests alone.
root=${NICO_ROOT:-}
state=$root/var/lib/nico
run=$root/run/nico
member=$state/member

say() { echo "nico: $*" >&2; }
has() { [ -e "$member/$1" ]; }
value() { cat "$member/$1"; }

# Notes in a file whose cluster's data these are. After a power cut, the note is whole or as it was before.
mark() {
  value id > "$1.new"
  sync "$1.new"
  mv "$1.new" "$1"
}

# Whether an attempt to found or to join got as far as etcd and did not end. Most distributions have data of the cluster then.
begun() { false; }

# Whether the machine has a token. Without one, it can neither found nor join, and to wait does not help.
has_token() {
  [ -e "$run/join-token" ] || {
    say "no token: its decryption failed when the system was activated. Compare machines/$(value name).pub with this machine's host key"
    return 1
  }
}

# Whether anything answers at a URL, in whatever way: also one that is too slow to answer. No secret is sent.
answers() {
  local code=0 connected
  connected=$(
    curl --silent --insecure --noproxy '*' --connect-timeout 5 --max-time 10 --output /dev/null --write-out '%{time_connect}' "$1"
  ) || code=$?
  case $code in
    # No such name, or no connection.
    6 | 7) return 1 ;;
    # Out of time: there was a connection if it took any time.
    28) [[ $connected == *[1-9]* ]] ;;
    *) return 0 ;;
  esac
}

# The mounts whose paths begin like this, the last one first.
mounts() {
  awk -v begin="$1" 'index($2, begin) == 1 { print $2 }' "$root/proc/self/mounts" | tac
}

# Unmounts all whose paths begin like one of these.
unmount() {
  local begin mounted
  for begin; do
    mounts "$begin" | while read -r mounted; do
      # The table has octal numbers for spaces.
      mounted=$(printf '%b' "$mounted")
      timeout 20 umount "$mounted" || umount --lazy "$mounted" || true
    done
  done
}

# Deletes directories, but nothing that is mounted below them: where that cannot be unmounted, all stays.
delete() {
  local directory
  for directory; do
    unmount "$directory/"
    if [ -n "$(mounts "$directory/")" ]; then
      say "not deleting $directory: something below it is still mounted"
    else
      rm -rf --one-file-system "$directory" || say "not all of $directory could be deleted"
    fi
  done
}

# Whether anything is in a directory.
filled() {
  [ -n "$(find -H "$1" -mindepth 1 -maxdepth 1 ! -name lost+found -print -quit 2> /dev/null)" ]
}

# Moves what is in a directory away: the directory itself, or where that is a disk of its own, all in it.
move() {
  if ! filled "$1"; then
    return 0
  elif [[ " $(mounts "$1" | tr '\n' ' ') " == *" $1 "* ]]; then
    mkdir -p "$2"
    find "$1" -mindepth 1 -maxdepth 1 ! -name lost+found -exec mv -t "$2" {} +
  else
    mv -T "$1" "$2"
  fi
}

# Moves what is in a directory away, as `move` does, beside what was kept before: that may be somebody's only copy.
keep() {
  if filled "$1"; then
    if [ -e "$2" ]; then mv -T "$2" "$2-$(date +%s)"; fi
    move "$1" "$2"
  fi
}

# Ends all containers that outlived the service that started them, and takes their network off. The arguments are for `unmount`.
clear_containers() {
  local group link table
  pkill -9 -f 'containerd-shim.* -namespace k8s.io' || true
  for group in "$root/sys/fs/cgroup/kubepods" "$root/sys/fs/cgroup/kubepods.slice"; do
    if [ -e "$group/cgroup.kill" ]; then echo 1 > "$group/cgroup.kill"; fi
  done
  unmount "$root/run/netns/cni-" "$root/var/lib/kubelet/" "$@"
  for link in cni0 flannel.1 flannel-v6.1 kube-bridge vxlan.calico; do
    ip link delete "$link" 2> /dev/null || true
  done
  for table in iptables ip6tables; do
    "$table-save" | grep -v -e KUBE- -e CNI- -e FLANNEL -e cali- -e cali: | "$table-restore" || true
  done
}
