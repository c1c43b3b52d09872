# Takes this machine out of etcd while its cluster still runs on it, and then takes the distribution off. It ends in any case: a cluster
# that is deleted leaves nobody to ask.
if ! has id; then
  say "this machine is in no cluster"
  exit 0
fi
if [ "$(value role)" = control-plane ] && { [ -e "$root$(value data)" ] || begun; }; then
  left=
  # One that is alone has nobody to ask.
  while [ -s "$member/peers" ]; do
    while read -r peer; do
      if answers "$peer" && leave_etcd "$peer"; then
        left=yes
        break
      fi
      # The unit has ten minutes, of which each one that is slow takes up to three.
      if [ "$SECONDS" -ge 240 ]; then break 2; fi
    done < "$member/peers"
    if [ -n "$left" ] || [ "$SECONDS" -ge "${NICO_PATIENCE:-180}" ]; then break; fi
    sleep "${NICO_INTERVAL:-5}"
  done
  if [ -n "$left" ]; then say "left etcd"; else say "no other control plane machine took this one out of etcd"; fi
fi
for service in $NICO_SERVICES; do systemctl stop "$service.service" || true; done
take_off
# The id goes last: without it, this machine is in no cluster.
rm -rf "$state/joined" "$state/role" "$state/id" "$run"
rm -f "$member/id"
rm -rf "$member"
