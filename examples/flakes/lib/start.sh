# Decides, at each start, how this machine takes part: it founds the cluster, joins it, or goes on with the data that it has. Prints
# found, join or member. Until one of them is right, nothing starts.
decide() {
  local data peer round
  data=$(value data) || return 1
  if [ -e "$root$data" ]; then
    echo member
  elif has founds; then
    for round in 1 2 3; do
      while read -r peer; do
        # What this machine itself began is its own, also if another one joined meanwhile.
        if ! begun && answers "$peer"; then
          say "not founding the cluster: $peer answers already"
          return 1
        fi
      done < "$member/peers" || return 1
      # One that starts again right now is silent for moments.
      if [ "$round" -lt 3 ]; then sleep "${NICO_INTERVAL:-5}"; fi
    done
    echo found
  elif has join; then
    if ! answers "$(value join)"; then
      say "waiting for $(value join)"
      return 1
    fi
    echo join
  else
    say "starting nothing: no data of cluster id $(value id), and cluster.nix names nobody to join"
    return 1
  fi
}

# Without these two, nothing is known of the data. While the system changes, they may be missing for a moment: then this ends, and starts
# again.
id=$(value id)
role=$(value role)

# Data of another cluster, or of another role in this one, are set aside, once, and what still runs from them ends.
earlier=$(cat "$state/role" 2> /dev/null || true)
if [ -n "$earlier" ] && [ "$earlier" != "$role" ]; then
  set_aside role
  rm -f "$state/role" "$state/joined"
elif [ "$(cat "$state/id" 2> /dev/null)" != "$id" ]; then
  set_aside id
  rm -f "$state/joined"
fi
mark "$state/id"
echo "$role" > "$state/role"

[ -e "$root$(value data)" ] || has_token

# The files are read again each time: NICO may name another machine to join meanwhile.
until how=$(decide); do sleep "${NICO_INTERVAL:-5}"; done
say "start: $how"
begin "$how"
