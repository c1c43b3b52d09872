etc=$root/etc/kubernetes

# Removes this machine's member, through the machine whose API server has the given URL.
leave_etcd() {
  local etcd=$etc/pki/etcd id
  member_command() {
    etcdctl --endpoints "$1:2379" --cacert "$etcd/ca.crt" --cert "$etcd/peer.crt" --key "$etcd/peer.key" member "${@:2}"
  }
  id=$(member_command "${1%:*}" list | awk -F ', ' -v name="$(value name)" '$3 == name { print $1 }') || return 1
  if [ -n "$id" ]; then member_command "${1%:*}" remove "$id"; fi
}

take_off() {
  local aside=$state/aside/released
  clear_containers
  rm -rf "$aside"
  mkdir -p "$aside"
  # What remains is etcd and the certificates.
  for directory in /etc/kubernetes /var/lib/etcd; do
    if [ -e "$root$directory" ]; then mv "$root$directory" "$aside/$(basename "$directory")"; fi
  done
  rm -rf "$root/etc/cni/net.d" "$root/var/lib/kubelet" "$root/var/lib/cni" "$root/var/lib/containerd"
}
