# What does not last by itself. A failure is no failed unit: the timer tries again.
trap 'rm -f "$run/kubeadm.yaml"; exit 0' EXIT
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
fill init.yaml

# The API server's certificate covers an endpoint that came later. Without a certificate, after a power cut right here, no API server
# becomes ready: so this comes first.
covers() {
  case $1 in
    *:* | [0-9]*.[0-9]*.[0-9]*.[0-9]*) openssl x509 -noout -checkip "$1" -in "$etc/pki/apiserver.crt" ;;
    *) openssl x509 -noout -checkhost "$1" -in "$etc/pki/apiserver.crt" ;;
  esac | grep -q "does match"
}
while read -r san; do
  if ! covers "$san"; then
    say "a new certificate for the API server, which covers $san"
    rm -f "$etc/pki/apiserver.crt" "$etc/pki/apiserver.key"
    kubeadm init phase certs apiserver --config "$run/kubeadm.yaml"
    # The kubelet starts it again, with the new certificate.
    crictl --runtime-endpoint unix:///run/containerd/containerd.sock ps --name kube-apiserver --quiet | while read -r container; do
      crictl --runtime-endpoint unix:///run/containerd/containerd.sock stop "$container"
    done
    exit 0
  fi
done < "$member/sans"

if ! kubectl --request-timeout 10s get --raw /readyz > /dev/null; then
  say "the API server is not ready"
  exit 0
fi

# From admin.conf, kubeadm writes the address into cluster-info, by which machines join.
lead "$KUBECONFIG" || true
# What machines join by ends after two hours, so nothing that may fail comes before it: an upgrade waits for every control plane machine.
kubeadm init phase upload-certs --upload-certs --skip-certificate-key-print --config "$run/kubeadm.yaml"
kubeadm init phase bootstrap-token --skip-token-print --config "$run/kubeadm.yaml"
proxy=$(kubectl -n kube-system get configmap kube-proxy --ignore-not-found -o yaml)
text=$(sed "s|\(server: \)https://[^[:space:]\"\\\\]*|\1$endpoint|" <<< "$proxy")
if [ -n "$endpoint" ] && { [ "$text" != "$proxy" ] || [ -e "$state/kube-proxy" ]; }; then
  say "kube-proxy goes to $endpoint from now on"
  # Until kube-proxy is started again, it goes on as before.
  touch "$state/kube-proxy"
  kubectl replace -f - <<< "$text"
  kubectl -n kube-system rollout restart daemonset kube-proxy
  rm "$state/kube-proxy"
fi

image=$(kubectl -n kube-system get pod "kube-apiserver-$(value name)" -o 'jsonpath={.spec.containers[0].image}')
case $image in
  *:"$KUBERNETES_VERSION") ;;
  *) kubeadm upgrade apply --yes "$KUBERNETES_VERSION" ;;
esac
kubeadm init phase upload-config kubeadm --config "$run/kubeadm.yaml"
apply_network
