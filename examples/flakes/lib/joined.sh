# Waits until start.sh has judged the data of this machine, and, the first time only, until the machine is a Node. Later starts do not
# ask, since a cluster without a quorum could never be mended otherwise.
judged() { [ "$(cat "$state/id" 2> /dev/null)" = "$(value id)" ] && [ "$(cat "$state/role" 2> /dev/null)" = "$(value role)" ]; }
joined() { [ "$(cat "$state/joined" 2> /dev/null)" = "$(value id)" ]; }
is_node() { kubectl --kubeconfig "$root$(value kubeconfig)" --request-timeout 5s get node "$(value name)" > /dev/null 2>&1; }

if ! joined; then
  has_token
  say "waiting until this machine is a Node: the distribution's service says what it does meanwhile"
fi
until judged && { joined || is_node; }; do
  sleep "${NICO_INTERVAL:-5}"
done
if ! joined; then mark "$state/joined"; fi
