# Waits, the first time only, until the machine is a Node: NIO's proof that the configuration was applied then means that the machine
# is in the cluster. Later starts do not wait, since a cluster without a quorum could never be mended otherwise.
if [ "$(cat "$state/joined" 2> /dev/null)" != "$(value id)" ]; then
  until kubectl --kubeconfig "$root$(value kubeconfig)" --request-timeout 5s get node "$(value name)" > /dev/null 2>&1; do
    sleep "${NICO_INTERVAL:-5}"
  done
  mark "$state/joined"
fi
