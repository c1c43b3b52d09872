# What does not last by itself, on each control plane machine. A failure is no failed unit: the timer tries again.
trap 'rm -f "$run/kubeadm.yaml"; exit 0' EXIT
if [ ! -e "$root$(value data)" ]; then exit 0; fi
export KUBECONFIG=$etc/admin.conf
if ! kubectl --request-timeout 10s get --raw /readyz > /dev/null; then
  say "the API server is not ready"
  exit 0
fi
fill init.yaml

# The API server's certificate covers an endpoint that came later.
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

image=$(kubectl -n kube-system get pod "kube-apiserver-$(value name)" -o 'jsonpath={.spec.containers[0].image}')
case $image in
  *:"$KUBERNETES_VERSION") ;;
  *) kubeadm upgrade apply --yes "$KUBERNETES_VERSION" ;;
esac
kubeadm init phase upload-config kubeadm --config "$run/kubeadm.yaml"
kubeadm init phase upload-certs --upload-certs --skip-certificate-key-print --config "$run/kubeadm.yaml"
kubeadm init phase bootstrap-token --skip-token-print --config "$run/kubeadm.yaml"
apply_network
