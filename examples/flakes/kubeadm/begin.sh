# Data of another cluster go out of the way: kubeadm has one place only.
set_aside() {
  local aside directory
  # A first attempt of this cluster goes on where it ended.
  if [ "$1" = id ] && [ "$(cat "$etc/nico-begun" 2> /dev/null)" = "$id" ]; then return 0; fi
  take_turn
  systemctl stop kubelet.service || true
  crictl --runtime-endpoint unix:///run/containerd/containerd.sock rmp --all --force || true
  clear_containers "${containers[@]}"
  aside=$state/aside/$(cat "$etc/nico-begun" 2> /dev/null || echo unknown)-$(date +%s)
  mkdir -p "$aside"
  for directory in /etc/kubernetes /etc/cni/net.d /var/lib/etcd /var/lib/kubelet /var/lib/cni; do
    move "$root$directory" "$aside/$(basename "$directory")"
  done
  end_turn
}

# Whether the API server's certificate covers all that it has to: also an endpoint that came later.
covered() {
  local san
  while read -r san; do
    case $san in
      *:*) openssl x509 -noout -checkip "$san" -in "$etc/pki/apiserver.crt" ;;
      # Also a name such as 10.0.0.10.nip.io.
      *[!0-9.]*) openssl x509 -noout -checkhost "$san" -in "$etc/pki/apiserver.crt" ;;
      *) openssl x509 -noout -checkip "$san" -in "$etc/pki/apiserver.crt" ;;
    esac | grep -q "does match" || return 1
  done < "$member/sans"
}

# What takes the API server away for moments belongs to the apply: once that has ended, the next control plane machine has its turn.
settle() {
  local since=$SECONDS before=
  if covered && ! outdated; then return 0; fi
  take_turn
  if ! covered; then
    say "a new certificate for the API server"
    fill init.yaml start.yaml
    rm -f "$etc/pki/apiserver.crt" "$etc/pki/apiserver.key"
    kubeadm init phase certs apiserver --config "$run/start.yaml"
    sync --file-system "$etc"
    # The kubelet starts it again, with the new certificate. Not waited for: that needs a quorum.
    crictl --runtime-endpoint unix:///run/containerd/containerd.sock ps --name kube-apiserver --quiet | while read -r container; do
      crictl --runtime-endpoint unix:///run/containerd/containerd.sock stop "$container"
    done
  fi
  if outdated; then
    # The kubelet runs, so the machine is of use to its cluster meanwhile. Where the quorum is lost, this waits in vain, and the apply ends
    # well all the same: the next machine may be the one that brings the quorum back.
    until kubectl --kubeconfig "$etc/admin.conf" --request-timeout 10s get --raw /readyz > /dev/null; do
      if [ $((SECONDS - since)) -ge "${NICO_PATIENCE:-300}" ]; then
        say "not upgraded to $KUBERNETES_VERSION yet: the API server is not ready. nico-upkeep upgrades once it is"
        return 0
      fi
      sleep "${NICO_INTERVAL:-5}"
    done
    say "upgrading to $KUBERNETES_VERSION"
    [ -e "$etc/nico-upgrading" ] || before=$(versions)
    touch "$etc/nico-upgrading"
    sync "$etc/nico-upgrading"
    # That another machine is not Ready, or no worker is there for a Job, would keep this one from ever being applied. NICO has counted the
    # quorum.
    if ! kubeadm upgrade apply --yes --ignore-preflight-errors ControlPlaneNodesReady,CreateJob "$KUBERNETES_VERSION"; then
      # One that has changed nothing leaves nothing to take up, so that the flake can go back.
      if [ "$(versions)" = "$before" ]; then rm "$etc/nico-upgrading"; fi
      return 1
    fi
    sync --file-system "$etc"
    rm "$etc/nico-upgrading"
  fi
}

# A power cut may leave empty what kubeadm wrote right before, and kubeadm fails at such files. A key goes with its certificate, and with a
# CA all that it signed.
drop_empty() {
  local file
  if [ -n "$(find "$etc/pki" -type f -empty -name '*ca.*' 2> /dev/null)" ]; then rm -rf "$etc/pki" "$etc"/*.conf; fi
  find "$etc" "$root/var/lib/kubelet/pki" -type f -empty -regex '.*[.]\(conf\|crt\|key\|pem\|pub\|yaml\)' 2> /dev/null |
    while read -r file; do rm -f "$file" "${file%.*}".{crt,key,pub}; done
}

# From here on this is a member, whose files are on disk.
ended() {
  sync --file-system "$etc" "$root/var/lib"
  touch "$root$(value data)"
}

# Both commands take up what an attempt before them left, which is why nothing of that is an error.
begin() {
  mkdir -p "$etc"
  mark "$etc/nico-begun"
  case $1 in
    found)
      take_turn
      drop_empty
      fill init.yaml start.yaml
      kubeadm init --config "$run/start.yaml" --upload-certs --skip-token-print --skip-certificate-key-print --ignore-preflight-errors all
      # Upkeep applies the network again.
      ended
      apply_network
      ;;
    join)
      take_turn
      drop_empty
      fill join.yaml start.yaml
      # kubeadm refuses to join a Node of this name that is Ready, as the kubelet of an earlier attempt may be.
      systemctl stop kubelet.service || true
      kubeadm join --config "$run/start.yaml" --ignore-preflight-errors all
      ended
      ;;
    # A member. Not waited for: a cluster without a quorum could never be mended otherwise.
    *) systemctl start --no-block kubelet.service ;;
  esac
  if [ "$(value role)" = control-plane ]; then settle; fi
  rm -f "$run/start.yaml"
}
