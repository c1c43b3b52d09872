# Functions of all scripts. They take nothing from cluster.nix but by files of /var/lib/nico/member.
# root is for tests alone.
root=${NICO_ROOT:-}
state=$root/var/lib/nico
run=$root/run/nico
member=$state/member

say() { echo "nico: $*" >&2; }
has() { [ -e "$member/$1" ]; }
value() { cat "$member/$1"; }

# Whether anything answers at a URL, in whatever way. No secret is sent.
answers() {
  local code=0
  curl --silent --insecure --max-time 5 --output /dev/null "$1" || code=$?
  case $code in
    # No such name, no connection, no answer in time.
    6 | 7 | 28) return 1 ;;
    *) return 0 ;;
  esac
}

# Unmounts all below the given directories, the innermost first.
unmount_below() {
  local directory
  for directory; do
    awk -v below="$directory" 'index($2, below) == 1 { print $2 }' /proc/self/mounts | sort -r | while read -r mounted; do
      umount "$mounted" || umount --lazy "$mounted" || true
    done
  done
}

# Ends all containers that outlived the service that started them, and takes their network off.
clear_containers() {
  local group link table
  pkill -9 -f 'containerd-shim.* -namespace k8s.io' || true
  for group in "$root/sys/fs/cgroup/kubepods" "$root/sys/fs/cgroup/kubepods.slice"; do
    if [ -e "$group/cgroup.kill" ]; then echo 1 > "$group/cgroup.kill"; fi
  done
  unmount_below "$root/run/k3s" "$root/run/k0s" "$root/run/containerd" "$root/run/netns/cni-" "$root/var/lib/kubelet" "$@"
  for link in cni0 flannel.1 flannel-v6.1; do
    ip link delete "$link" 2> /dev/null || true
  done
  for table in iptables ip6tables; do
    "$table-save" | grep -v -e KUBE- -e CNI- -e FLANNEL | "$table-restore" || true
  done
}
