# Removes etcd members whose Node has been gone for two minutes: this distribution does not. One that has answered in that time may be
# about to become a Node, and has a quarter of an hour. One at a time, and only while more than half of the others answer. Only etcd's leader acts, so that
# two machines never remove two members at the same time. A failure is no failed unit: the timer tries again.
trap 'exit 0' EXIT
gone=$run/gone
leads() {
  etcdctl endpoint status --write-out fields |
    awk -F ' : ' '$1 == "\"MemberID\"" { id = $2 } $1 == "\"Leader\"" { leader = $2 } END { exit !(id != "" && id == leader) }'
}
if ! has id || ! leads 2> /dev/null; then
  rm -rf "$gone"
  exit 0
fi
# Names and addresses of the Nodes.
nodes=$(kubectl --request-timeout 10s get nodes \
  -o 'jsonpath={range .items[*]}{.metadata.name}{" "}{range .status.addresses[*]}{.address}{" "}{end}{end}') || exit 0
# A control plane without kubelets has no Nodes: they tell nothing of its members then.
case " $nodes " in
  *" $(value name) "*) ;;
  *)
    rm -rf "$gone"
    exit 0
    ;;
esac
members=$(etcdctl member list --write-out simple)
# Some versions print this as an error.
healthy=$(etcdctl endpoint health --cluster 2>&1 || true)
# Since the machine started: its clock may jump, as a laptop's does that has lost its battery.
read -r now _ < "$root/proc/uptime"
now=${now%.*}
mkdir -p "$gone"

# id, status, name, peer URLs, client URLs, is a learner. One that has not started has no name yet, but a peer URL.
dead=
while IFS=, read -r id _ name peer _; do
  name=${name# }
  host=${peer# https://}
  host=${host%:*}
  host=${host#[}
  host=${host%]}
  case " $nodes " in
    *" ${name:-$host} "* | *" $host "*)
      rm -f "$gone/$id" "$gone/$id.heard"
      continue
      ;;
    *) ;;
  esac
  if [ ! -e "$gone/$id" ]; then
    say "member $id, ${name:-$host}, has no Node"
    echo "$now" > "$gone/$id"
    continue
  fi
  if answers "${peer# }"; then echo "$now" > "$gone/$id.heard"; fi
  since=$(cat "$gone/$id")
  # One that starts again is silent for moments.
  heard=$(cat "$gone/$id.heard" 2> /dev/null || echo "$since")
  if [ -z "$dead" ] && { [ $((now - heard)) -ge 120 ] || [ $((now - since)) -ge 900 ]; }; then dead=$id; fi
done <<< "$members"
if [ -z "$dead" ]; then exit 0; fi

others=0
answering=0
while IFS=, read -r id _ _ peer client learner; do
  if [ "$id" = "$dead" ] || [ "$learner" = " true" ]; then continue; fi
  others=$((others + 1))
  # k0s gives the same client URL for all members: so the port for the other members has to answer too.
  case "$healthy" in
    *"${client# } is healthy"*) if answers "${peer# }"; then answering=$((answering + 1)); fi ;;
    *) ;;
  esac
done <<< "$members"
if [ $((answering * 2)) -gt "$others" ]; then
  say "removing member $dead: its Node is gone, and $answering of $others others answer"
  etcdctl member remove "$dead"
  rm -f "$gone/$dead" "$gone/$dead.heard"
else
  say "not removing member $dead: only $answering of $others others answer"
fi
