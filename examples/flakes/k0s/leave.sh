# Removes this machine's member, through the etcd that runs here: k0s has etcd listen for clients on the machine itself only.
leave_etcd() {
  local id members pki=$data_directory/pki
  etcd_member() {
    etcdctl --endpoints https://127.0.0.1:2379 --cacert "$pki/etcd/ca.crt" --cert "$pki/apiserver-etcd-client.crt" \
      --key "$pki/apiserver-etcd-client.key" member "$@"
  }
  members=$(etcd_member list) || return 1
  for id in $(awk -F ', ' -v name="$(value name)" '$3 == name { print $1 }' <<< "$members"); do
    etcd_member remove "$id" || return 1
  done
}

take_off() {
  local aside=$state/aside/released directory
  clear_containers "$root/run/k0s/" "$data_directory/"
  mkdir -p "$aside"
  # What remains is etcd and the certificates.
  for directory in etcd pki; do keep "$data_directory/$directory" "$aside/$directory"; done
  delete "$data_directory" "$root/var/lib/cni"
}
