# What the flakes in the given directories make of the files beside them: of each machine, what the tests look at.
directories:
let
  nixpkgs = import ./nixpkgs;
  # The input of the k0s flake.
  k0s.packages.x86_64-linux.k0s = {
    type = "derivation";
    name = "k0s";
    outPath = "/nix/store/00000000000000000000000000000000-k0s";
  };
  report =
    { config }:
    let
      firewall = config.networking.firewall;
    in
    {
      failed = map (it: it.message) (builtins.filter (it: !it.assertion) config.assertions);
      state = config.nico.state or { };
      hostName = config.networking.hostName;
      inherit (config.networking) hosts;
      dhcpcd = config.networking.dhcpcd.denyInterfaces;
      ports = firewall.allowedTCPPorts;
      activation = map (it: it.text or it) (builtins.attrValues config.system.activationScripts);
      units = config.systemd.services;
      others = {
        inherit (config.systemd) sockets timers;
        inherit (config.environment) etc;
        inherit firewall;
      };
      vip = config.services.keepalived;
      ssh = config.services.openssh;
      keys = config.users.users.root.openssh.authorizedKeys.keys;
      nix = config.nix.settings;
    };
in
map (
  directory:
  builtins.mapAttrs (_: report) ((import (directory + "/flake.nix")).outputs { inherit nixpkgs k0s; }).nixosConfigurations
) directories
