# Removes this machine's member, through the etcd that runs here: k0s has etcd listen for clients on the machine itself only.
leave_etcd() {
  local id pki=$data_directory/pki
  etcd_member() {
    etcdctl --endpoints https://127.0.0.1:2379 --cacert "$pki/etcd/ca.crt" --cert "$pki/apiserver-etcd-client.crt" \
      --key "$pki/apiserver-etcd-client.key" member "$@"
  }
  id=$(etcd_member list | awk -F ', ' -v name="$(value name)" '$3 == name { print $1 }') || return 1
  if [ -n "$id" ]; then etcd_member remove "$id"; fi
}

take_off() {
  local aside=$state/aside/released
  clear_containers "$data_directory"
  rm -rf "$aside"
  mkdir -p "$aside"
  # What remains is etcd and the certificates.
  for directory in etcd pki; do
    if [ -e "$data_directory/$directory" ]; then mv "$data_directory/$directory" "$aside/$directory"; fi
  done
  rm -rf "$data_directory"
}
