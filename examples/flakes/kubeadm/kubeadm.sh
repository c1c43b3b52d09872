etc=$root/etc/kubernetes
# Mounts of containers.
containers=("$root/run/containerd/io.containerd.runtime.v2.task/k8s.io/" "$root/run/containerd/io.containerd.grpc.v1.cri/")

# Until kubeadm ends, it may have made this machine a member of etcd.
begun() {
  [ -e "$root/var/lib/etcd/member" ] && [ "$(cat "$etc/nico-begun" 2> /dev/null)" = "$(value id)" ]
}

# A start and upkeep take turns: both write certificates, and settings of the cluster.
take_turn() {
  exec 9> "$run/lock"
  flock "$@" 9
}
end_turn() { exec 9>&-; }

# Fills the tokens into a configuration, by no command whose arguments others could read. Units run side by side: each has a file of its
# own.
fill() {
  local text worker control
  control=$(cat "$run/join-token")
  worker=$control
  # On a worker, join-token is the workers' token.
  if [ -e "$run/worker-token" ] && [ "$(value role)" = control-plane ]; then worker=$(cat "$run/worker-token"); fi
  text=$(value "$1")
  text=${text//@token@/${worker:0:6}.${worker:6:16}}
  text=${text//@key@/$control}
  (umask 077 && printf '%s\n' "$text" > "$run/$2")
}

# The versions of this machine's part of the control plane.
versions() {
  sed -n 's/^ *image: .*://p' "$etc"/manifests/kube-{apiserver,controller-manager,scheduler}.yaml 2> /dev/null
}

# Whether this machine's part of the control plane has another version than its kubeadm, or an upgrade was cut short.
outdated() {
  [ -e "$etc/nico-upgrading" ] || versions | grep -qvxF "$KUBERNETES_VERSION"
}

apply_network() {
  kubectl --kubeconfig "$etc/admin.conf" apply -f "$member/network.json"
}
