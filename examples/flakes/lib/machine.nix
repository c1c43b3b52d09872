# What every machine has, in a cluster or released: the SSH server, the key by which NIO logs in, and a network that pods do not disturb.
{ config, lib, pkgs, nico, ... }:
let
  # The public half goes to the machine. The private half is needed to build it, and is no part of the system.
  publicKey = pkgs.runCommand "nico-authorized-keys" { nativeBuildInputs = [ pkgs.openssh ]; } ''
    # As a file from elsewhere may be: without its last newline, or with carriage returns.
    (umask 077 && { tr -d '\r' < ${builtins.path { path = nico.file "machine-ssh-key"; name = "machine-ssh-key"; }}; echo; } > key)
    ssh-keygen -y -P "" -f key > $out
  '';
in
{
  options.nico.sshUser = lib.mkOption {
    type = lib.types.str;
    default = "root";
    description = "The user as whom NIO and NICO log in: the Machine's sshUser.";
  };

  config = {
    # What the system is built from, tokens and keys included, goes with the garbage.
    nix.settings.keep-derivations = lib.mkDefault false;

    services.openssh.enable = true;
    services.openssh.authorizedKeysFiles = [ "/var/lib/nico/authorized_keys.d/%u" ];

    # dhcpcd would ask for addresses on the interfaces of pods too, and lead the machine's own traffic through one that gets none.
    networking.dhcpcd.denyInterfaces = [ "veth*" "cali*" "cni*" "flannel*" "kube-bridge" ];

    # Kept on disk: `minimal` accepts the key too, also where it is built without it.
    system.activationScripts.nico-ssh = lib.mkIf (builtins.pathExists (nico.file "machine-ssh-key")) ''
      install -D -m 0644 ${publicKey} /var/lib/nico/authorized_keys.d/${lib.escapeShellArg config.nico.sshUser}
    '';
  };
}
