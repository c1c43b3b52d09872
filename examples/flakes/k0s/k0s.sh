data_directory=$root/var/lib/k0s

# The checksum of a CA's certificate that only who has the workers' token can make.
signature() {
  { cat "$1" && sha256sum < "$2"; } | sha256sum
}
