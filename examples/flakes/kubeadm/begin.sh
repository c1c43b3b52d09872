# Data of another cluster go out of the way: kubeadm has one place only.
set_aside() {
  local aside directory
  # A first attempt of this cluster goes on where it ended.
  if [ "$1" = id ] && [ "$(cat "$etc/nico-begun" 2> /dev/null)" = "$id" ]; then return 0; fi
  systemctl stop kubelet.service || true
  crictl --runtime-endpoint unix:///run/containerd/containerd.sock rmp --all --force || true
  clear_containers "${containers[@]}"
  aside=$state/aside/$(cat "$etc/nico-begun" 2> /dev/null || echo unknown)-$(date +%s)
  mkdir -p "$aside"
  for directory in /etc/kubernetes /etc/cni/net.d /var/lib/etcd /var/lib/kubelet /var/lib/cni; do
    move "$root$directory" "$aside/$(basename "$directory")"
  done
}

# Both commands take up what an attempt before them left, which is why nothing of that is an error.
begin() {
  mkdir -p "$etc"
  mark "$etc/nico-begun"
  case $1 in
    found)
      fill init.yaml
      kubeadm init --config "$run/kubeadm.yaml" --upload-certs --skip-token-print --skip-certificate-key-print --ignore-preflight-errors all
      # From here on this is a member, and the network is applied again by upkeep.
      touch "$root$(value data)"
      apply_network
      ;;
    join)
      fill join.yaml
      # kubeadm refuses to join a Node of this name that is Ready, as the kubelet of an earlier attempt may be.
      systemctl stop kubelet.service || true
      kubeadm join --config "$run/kubeadm.yaml" --ignore-preflight-errors all
      ;;
    # Not waited for: a cluster without a quorum could never be mended otherwise.
    member) systemctl start --no-block kubelet.service ;;
  esac
  rm -f "$run/kubeadm.yaml"
  touch "$root$(value data)"
}
