# A machine that leaves a k0s cluster.
{ pkgs, ... }:
{
  nico.leave = {
    services = [ "k0scontroller" "k0sworker" ];
    script = builtins.readFile ./k0s.sh + builtins.readFile ./leave.sh;
  };
  systemd.services.nico-leave.path = [ pkgs.etcd ];
}
