# Removes this machine's member, through the machine whose API server has the given URL.
leave_etcd() {
  local etcd=$etc/pki/etcd id members
  member_command() {
    etcdctl --endpoints "$1:2379" --cacert "$etcd/ca.crt" --cert "$etcd/peer.crt" --key "$etcd/peer.key" member "${@:2}"
  }
  members=$(member_command "${1%:*}" list) || return 1
  for id in $(awk -F ', ' -v name="$(value name)" '$3 == name { print $1 }' <<< "$members"); do
    member_command "${1%:*}" remove "$id" || return 1
  done
}

take_off() {
  local aside=$state/aside/released directory
  clear_containers "${containers[@]}"
  mkdir -p "$aside"
  # What remains is etcd and the certificates.
  for directory in /etc/kubernetes /var/lib/etcd; do keep "$root$directory" "$aside/$(basename "$directory")"; done
  delete "$root/etc/cni/net.d" "$root/var/lib/kubelet" "$root/var/lib/cni" "$root/var/lib/containerd"
}
