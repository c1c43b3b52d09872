# The unit by which an apply ends well only once the machine is a Node: NIO's proof that the configuration was applied then means that the
# machine is in the cluster. It is a unit of its own, since systemd restarts no service that ends while its ExecStartPost waits, and since
# a switch to a new system counts a service that is to be started again as started. This one fails, and the apply with it.
{ facts, path }:
{
  description = "Wait until this machine is a Node of the cluster";
  wantedBy = [ "multi-user.target" ];
  inherit path;
  restartTriggers = [ facts.id (builtins.toJSON facts.isControlPlane) ];
  script = builtins.readFile ./common.sh + builtins.readFile ./joined.sh;
  serviceConfig = {
    Type = "oneshot";
    RemainAfterExit = true;
    # NIO tries again.
    TimeoutStartSec = "20min";
  };
}
