# Packages and builders that exist in nixpkgs, as far as the example flakes use them. Nothing is built: a path follows from what would
# be in it.
{ lib }:
let
  derivation =
    name: content:
    {
      type = "derivation";
      inherit name content;
      version = "1.34.1";
      outPath = "/nix/store/${builtins.substring 0 32 (builtins.hashString "sha256" content)}-${name}";
    };
  package = name: lib.nameValuePair name (derivation name name);
in
builtins.listToAttrs (
  map package [
    "age"
    "bash"
    "cni-plugins"
    "conntrack-tools"
    "coreutils"
    "cri-tools"
    "curl"
    "etcd"
    "ethtool"
    "findutils"
    "gawk"
    "gnugrep"
    "gnused"
    "gzip"
    "iproute2"
    "iptables"
    "k3s"
    "kmod"
    "kubectl"
    "kubernetes"
    "mount"
    "openssh"
    "openssl"
    "procps"
    "rke2"
    "socat"
    "systemd"
    "umount"
    "util-linux"
  ]
)
// {
  stdenv.hostPlatform.system = "x86_64-linux";
  writeText = derivation;
  writeShellScript = derivation;
  runCommand = name: environment: script: derivation name (builtins.toJSON environment + script);
  fetchurl = { url, hash }: derivation (baseNameOf url) (url + hash);
}
