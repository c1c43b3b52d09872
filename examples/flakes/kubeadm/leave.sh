# Removes this machine's member, through the machine whose API server has the given URL.
leave_etcd() {
  local etcd=$etc/pki/etcd id name members
  member_command() {
    etcdctl --endpoints "$1:2379" --cacert "$etcd/ca.crt" --cert "$etcd/peer.crt" --key "$etcd/peer.key" member "${@:2}"
  }
  members=$(member_command "${1%:*}" list) || return 1
  while IFS=, read -r id _ name _; do
    if [ "$name" = " $(value name)" ]; then member_command "${1%:*}" remove "$id" < /dev/null || return 1; fi
  done <<< "$members"
}

take_off() {
  local aside=$state/aside/released directory
  clear_containers "${containers[@]}"
  mkdir -p "$aside"
  # What remains is etcd and the certificates.
  for directory in /etc/kubernetes /var/lib/etcd; do keep "$root$directory" "$aside/$(basename "$directory")"; done
  delete "$root/etc/cni/net.d" "$root/var/lib/kubelet" "$root/var/lib/cni" "$root/var/lib/containerd"
}
