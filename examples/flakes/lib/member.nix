# A machine of a cluster: names, tokens, what its start rests on, and the virtual IP.
{ config, lib, pkgs, nico, ... }:
let
  inherit (nico) facts;
  inherit (lib) mkOption types;
  cfg = config.nico;

  tokens = [ "join-token" ] ++ lib.optional facts.isControlPlane "worker-token";
  missing = builtins.filter (token: !builtins.pathExists (nico.file token)) tokens;

  # The token as it is in the system: encrypted for the machine where its SSH host key is known, else as it is.
  hostKey = nico.file "machines/${facts.name}.pub";
  plain = token: builtins.path { path = nico.file token; name = token; };
  encrypted =
    token:
    pkgs.runCommand "${token}.age" { nativeBuildInputs = [ pkgs.age ]; } ''
      age --encrypt --recipients-file ${builtins.path { path = hostKey; name = "host-key.pub"; }} --output $out ${plain token}
    '';
  install =
    token:
    if builtins.pathExists hostKey then
      ''
        if (umask 077; ${pkgs.age}/bin/age --decrypt --identity /etc/ssh/ssh_host_ed25519_key --output /run/nico/${token}.new ${encrypted token}); then
          mv /run/nico/${token}.new /run/nico/${token}
        else
          echo "nico: machines/${facts.name}.pub is not this machine's host key: put its /etc/ssh/ssh_host_ed25519_key.pub there, and push" >&2
          # The activation fails, and the apply with it.
          false
        fi
      ''
    else
      ''
        install -m 0400 ${plain token} /run/nico/${token}
      '';

  vip = cfg.vip.interface != null && facts.endpoint != null && facts.isControlPlane;
in
{
  options.nico = {
    state = mkOption {
      type = types.attrsOf types.str;
      internal = true;
      description = "Files of /var/lib/nico/member, by which start.sh decides. They change without a restart.";
    };
    apiPort = mkOption {
      type = types.port;
      default = 6443;
      description = "Port of the API server of each control plane machine.";
    };
    vip.interface = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "Where the control plane machines serve the endpoint's host themselves: the interface that gets the address.";
    };
    vip.routerId = mkOption {
      type = types.int;
      # 1 to 255, other clusters in the same network mostly have another.
      default = 1 + (builtins.fromTOML "byte = 0x${builtins.substring 0 2 facts.id}").byte * 254 / 255;
      description = "VRRP's virtual router id, which no other cluster in the same network may have.";
    };
  };

  config = {
    assertions = [
      {
        assertion = missing == [ ];
        message = "${toString missing} is missing beside flake.nix: NIO adds it. To evaluate by hand, add 64 hexadecimal characters.";
      }
      {
        assertion = vip -> facts.isIP facts.endpoint.host && facts.endpoint.port == cfg.apiPort;
        message = "nico.vip needs a controlPlaneEndpoint that is an IP address with the port of the API servers, ${toString cfg.apiPort}.";
      }
    ];

    networking.hostName = facts.name;
    networking.hosts = facts.hosts;
    # Packets of pods come by other ways than answers to them go.
    networking.firewall.checkReversePath = lib.mkDefault "loose";

    # Pods need both.
    boot.kernelModules = [ "br_netfilter" "overlay" ];

    nico.state = {
      inherit (facts) id name;
      role = if facts.isControlPlane then "control-plane" else "worker";
      # The API servers that must be silent before this machine founds a cluster, and through which it leaves.
      peers = lib.concatLines (map (machine: facts.url machine.ip cfg.apiPort) facts.peers);
    }
    // lib.optionalAttrs facts.founds { founds = ""; };

    # On disk, so that `minimal` knows what to leave.
    system.activationScripts.nico.text = ''
      # A switch to a new system leaves the host name that the machine runs with, by which k0s names the Node and the member of etcd.
      echo ${facts.name} > /proc/sys/kernel/hostname || echo "nico: the host name changes only when this machine is started again" >&2
      rm -rf /var/lib/nico/member.new
      install -d -m 0755 /var/lib/nico /var/lib/nico/member.new
      ${lib.concatLines (
        lib.mapAttrsToList (
          file: content: "install -m 0644 ${pkgs.writeText "nico-${file}" content} /var/lib/nico/member.new/${file}"
        ) cfg.state
      )}
      rm -rf /var/lib/nico/member
      mv /var/lib/nico/member.new /var/lib/nico/member
      install -d -m 0700 /run/nico
      ${lib.concatMapStrings install (if missing == [ ] then tokens else [ ])}
    '';

    services.keepalived = lib.mkIf vip {
      enable = true;
      openFirewall = true;
      vrrpScripts.api = {
        # The address goes to a machine whose API server answers, with whatever status.
        script = "${pkgs.curl}/bin/curl --silent --insecure --max-time 3 --output /dev/null https://127.0.0.1:${toString cfg.apiPort}/readyz";
        interval = 3;
        user = "nobody";
      };
      vrrpInstances.api = {
        inherit (cfg.vip) interface;
        virtualRouterId = cfg.vip.routerId;
        virtualIps = [ { addr = facts.endpoint.host; } ];
        trackScripts = [ "api" ];
      };
    };
  };
}
