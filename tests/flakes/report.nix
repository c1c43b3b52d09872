# What the flakes in the given directories make of the files beside them: of each machine, what the tests look at.
directories:
let
  nixpkgs = import ./nixpkgs;
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
      ports = firewall.allowedTCPPorts;
      activation = map (it: it.text or it) (builtins.attrValues config.system.activationScripts);
      units = config.systemd.services;
      others = {
        inherit (config.systemd) sockets timers;
        inherit (config.environment) etc;
        inherit firewall;
      };
      vip = config.services.keepalived;
    };
in
map (
  directory:
  builtins.mapAttrs (_: report) ((import (directory + "/flake.nix")).outputs { inherit nixpkgs; }).nixosConfigurations
) directories
