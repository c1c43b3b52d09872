# What does not last by itself. A failure is no failed unit: the timer tries again.
trap 'rm -f "$run/upkeep.yaml"; exit 0' EXIT
# A start has forty minutes.
take_turn --timeout 2500
# A start may be waiting for its turn.
kubectl() { command kubectl --request-timeout 30s "$@"; }
if [ ! -e "$root$(value data)" ]; then exit 0; fi
endpoint=
# The endpoint counts once it answers, with a certificate of this cluster that covers it.
if has endpoint && curl --silent --fail --noproxy '*' --max-time 10 --cacert "$etc/pki/ca.crt" --output /dev/null "$(value endpoint)/livez"; then
  endpoint=$(value endpoint)
fi

# Leads a kubeconfig to the endpoint, and fails where nothing is to be changed.
lead() {
  local text
  text=$(sed "s|^\( *server: \)https://.*|\1$endpoint|" "$1")
  if [ -z "$endpoint" ] || [ "$text" = "$(cat "$1")" ]; then return 1; fi
  say "$1 goes to $endpoint from now on"
  (umask 077 && printf '%s\n' "$text" > "$1.new")
  sync "$1.new"
  mv "$1.new" "$1"
}

if [ "$(value role)" = worker ]; then
  if lead "$etc/kubelet.conf"; then systemctl restart --no-block kubelet.service; fi
  exit 0
fi

export KUBECONFIG=$etc/admin.conf
fill init.yaml upkeep.yaml

if ! kubectl get --raw /readyz > /dev/null; then
  say "the API server is not ready"
  exit 0
fi

# A start that ended well without the upgrade had no quorum. The upgrade begins when this ends.
if outdated && systemctl is-active --quiet nico-kubeadm.service; then systemctl restart --no-block nico-kubeadm.service; fi

# From admin.conf, kubeadm writes the address into cluster-info, by which machines join.
lead "$KUBECONFIG" || true
# What machines join by ends after two hours, so nothing that may fail comes before it.
kubeadm init phase upload-certs --upload-certs --skip-certificate-key-print --config "$run/upkeep.yaml"
kubeadm init phase bootstrap-token --skip-token-print --config "$run/upkeep.yaml"
proxy=$(kubectl -n kube-system get configmap kube-proxy --ignore-not-found -o yaml)
# shellcheck disable=SC2001
text=$(sed "s|\(server: \)https://[^[:space:]\"\\\\]*|\1$endpoint|" <<< "$proxy")
if [ -n "$endpoint" ] && { [ "$text" != "$proxy" ] || [ -e "$state/kube-proxy" ]; }; then
  say "kube-proxy goes to $endpoint from now on"
  # Until kube-proxy is started again, it goes on as before.
  touch "$state/kube-proxy"
  kubectl replace -f - <<< "$text"
  kubectl -n kube-system rollout restart daemonset kube-proxy
  rm "$state/kube-proxy"
fi

# Until this machine is upgraded, the cluster's settings keep the version that runs.
if ! outdated; then kubeadm init phase upload-config kubeadm --config "$run/upkeep.yaml"; fi
apply_network
