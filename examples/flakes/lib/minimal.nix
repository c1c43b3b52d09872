# A released machine: it leaves the cluster that it was in, and keeps the SSH server.
{ config, lib, pkgs, ... }:
let
  cfg = config.nico.leave;
  # A service that goes with the earlier system would stop before the machine has left. So it stays under its name, untouched.
  kept = {
    restartIfChanged = false;
    serviceConfig.ExecStart = "${pkgs.coreutils}/bin/true";
    serviceConfig.KillMode = "process";
  };
in
{
  options.nico.leave = {
    services = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      description = "The distribution's services, without .service, in the order in which they stop.";
    };
    script = lib.mkOption {
      type = lib.types.lines;
      description = "The functions `leave_etcd` and `take_off` of the distribution.";
    };
  };

  config = {
    systemd.services = lib.genAttrs cfg.services (_: kept) // {
      nico-leave = {
        description = "Leave the Kubernetes cluster of which this machine was a member";
        after = [ "network-online.target" ];
        wants = [ "network-online.target" ];
        wantedBy = [ "multi-user.target" ];
        path = [
          pkgs.curl
          pkgs.gnugrep
          pkgs.gawk
          pkgs.iproute2
          pkgs.iptables
          pkgs.kubectl
          pkgs.procps
          pkgs.util-linux
        ];
        environment.NICO_SERVICES = toString cfg.services;
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
          TimeoutStartSec = "10min";
        };
        script = builtins.readFile ./common.sh + cfg.script + builtins.readFile ./leave.sh;
      };
    };
  };
}
