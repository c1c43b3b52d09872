# The unit that removes dead members of etcd, and its timer: for distributions that do not remove a member with its Node.
{ path, environment }:
{
  service = {
    description = "Remove etcd members whose Node is gone";
    inherit path environment;
    script = builtins.readFile ./common.sh + builtins.readFile ./dead-members.sh;
    restartIfChanged = false;
    serviceConfig.Type = "oneshot";
  };
  timer = {
    wantedBy = [ "timers.target" ];
    timerConfig = {
      OnActiveSec = "30s";
      OnUnitInactiveSec = "30s";
    };
  };
}
