# A machine that leaves a kubeadm cluster.
{ pkgs, ... }:
{
  nico.leave = {
    services = [ "kubelet" "containerd" ];
    script = builtins.readFile ./kubeadm.sh + builtins.readFile ./leave.sh;
  };
  systemd.services.nico-leave.path = [ pkgs.etcd ];
}
