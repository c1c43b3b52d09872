# Data of another cluster go out of the way: k0s has one place only, where NICO looks for the kubeconfig.
set_aside() {
  # Those of a first attempt of this cluster stay.
  if [ "$1" = id ] && [ "$(cat "$data_directory/nico-begun" 2> /dev/null)" = "$id" ]; then return 0; fi
  clear_containers "$root/run/k0s/" "$data_directory/"
  if [ -e "$data_directory" ]; then
    mkdir -p "$state/aside"
    move "$data_directory" "$state/aside/$(cat "$data_directory/nico-begun" 2> /dev/null || echo unknown)-$(date +%s)"
  fi
}

# Writes a text with the tokens in it, by no command whose arguments others could read.
fill() {
  local text worker control
  control=$(cat "$run/join-token")
  worker=$control
  # On a worker, join-token is the workers' token.
  if [ "$(value role)" = control-plane ]; then worker=$(cat "$run/worker-token"); fi
  text=$(value "$1")
  text=${text//@ca@/${2:-}}
  text=${text//@token@/${control:0:6}.${control:6:16}}
  text=${text//@worker-id@/${worker:0:6}}
  text=${text//@worker-secret@/${worker:6:16}}
  text=${text//@control-id@/${control:0:6}}
  text=${text//@control-secret@/${control:6:16}}
  printf '%s\n' "$text"
}

# The CA's certificate: from the flake, or from the machine to join, which has to prove that it is the cluster's.
fetch_ca() {
  if has ca.crt; then
    value ca.crt > "$run/ca.crt"
    return 0
  fi
  curl --silent --fail --max-time 10 --output "$run/ca" "$(value ca)" || return 1
  sed 1d "$run/ca" > "$run/ca.crt"
  if [ "$(head -n 1 "$run/ca")" != "$(signature "$1" "$run/ca.crt")" ]; then
    say "refusing the CA that $(value ca) hands out: it is not signed with this cluster's token"
    return 1
  fi
}

begin() {
  local manifests=$data_directory/manifests/nico
  umask 077
  (umask 022 && mkdir -p "$data_directory")
  mark "$data_directory/nico-begun"
  echo NICO_JOIN= > "$run/k0s.env"
  # A member goes on with those that it has where they could not be decrypted this time.
  if [ "$(value role)" = control-plane ] && { [ "$1" != member ] || [ -e "$run/join-token" ]; }; then
    mkdir -p "$manifests"
    fill tokens.json > "$manifests/tokens.yaml"
  fi
  case $1 in
    found)
      if has ca.crt && [ -e "$run/ca.key" ]; then
        (umask 022 && mkdir -p "$data_directory/pki")
        install -m 0644 "$member/ca.crt" "$data_directory/pki/ca.crt"
        install -m 0640 "$run/ca.key" "$data_directory/pki/ca.key"
      fi
      ;;
    join)
      # k0s founds a cluster of its own where an earlier attempt left the CA: so this one starts without.
      rm -rf "$data_directory/pki"
      fetch_ca "$run/join-token"
      fill join.json "$(base64 -w 0 "$run/ca.crt")" | gzip | base64 -w 0 > "$run/k0s-token"
      echo "NICO_JOIN=--token-file=$run/k0s-token" > "$run/k0s.env"
      ;;
    *) ;;
  esac
}
