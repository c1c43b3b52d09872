# Removes this machine's member, through the etcd that runs here: k0s has etcd listen for clients on the machine itself only.
leave_etcd() {
  local id name members pki=$data_directory/pki
  etcd_member() {
    etcdctl --endpoints https://127.0.0.1:2379 --cacert "$pki/etcd/ca.crt" --cert "$pki/apiserver-etcd-client.crt" \
      --key "$pki/apiserver-etcd-client.key" member "$@"
  }
  members=$(etcd_member list) || return 1
  while IFS=, read -r id _ name _; do
    if [ "$name" = " $(value name)" ]; then etcd_member remove "$id" < /dev/null || return 1; fi
  done <<< "$members"
}

take_off() {
  local aside=$state/aside/released directory
  clear_containers "$root/run/k0s/" "$data_directory/"
  # A manifest with the tokens: it goes also where something keeps the directory from being deleted.
  rm -rf "$data_directory/manifests/nico"
  mkdir -p "$aside"
  # What remains is etcd and the certificates.
  for directory in etcd pki; do keep "$data_directory/$directory" "$aside/$directory"; done
  delete "$data_directory" "$root/var/lib/cni"
}
