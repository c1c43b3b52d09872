# services.k3s and services.rke2 with their documented options, and the units that NixOS makes of them.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  option = type: default: mkOption { inherit type default; };
  names = types.listOf types.str;

  options = name: {
    enable = lib.mkEnableOption name;
    package = option types.package pkgs.${name};
    role = option (types.enum [ "server" "agent" ]) "server";
    serverAddr = option types.str "";
    token = option types.str "";
    tokenFile = option (types.nullOr types.path) null;
    agentToken = option types.str "";
    agentTokenFile = option (types.nullOr types.path) null;
    extraFlags = option (types.either types.str names) [ ];
    environmentFile = option (types.nullOr types.path) null;
    configPath = option (types.nullOr types.path) null;
    disable = option names [ ];
    nodeName = option (types.nullOr types.str) null;
    nodeLabel = option names [ ];
    nodeTaint = option names [ ];
    nodeIP = option (types.nullOr types.str) null;
    nodeExternalIP = option (types.nullOr types.str) null;
    selinux = option types.bool false;
    extraKubeletConfig = option (types.attrsOf types.anything) { };
  };

  unit =
    name: more:
    let
      cfg = config.services.${name};
      flag = key: value: lib.optional (value != "" && value != null) "--${key} ${toString value}";
      each = key: map (value: "--${key}=${value}");
    in
    {
      after = [ "firewall.service" "network-online.target" ];
      wants = [ "firewall.service" "network-online.target" ];
      wantedBy = [ "multi-user.target" ];
      serviceConfig = {
        Type = if cfg.role == "agent" then "exec" else "notify";
        KillMode = "process";
        Delegate = "yes";
        Restart = "always";
        RestartSec = "5s";
        LimitNOFILE = 1048576;
        LimitNPROC = "infinity";
        LimitCORE = "infinity";
        TasksMax = "infinity";
        TimeoutStartSec = 0;
        EnvironmentFile = cfg.environmentFile;
        ExecStart = builtins.concatStringsSep " \\\n " (
          [ "${cfg.package}/bin/${name} ${cfg.role}" ]
          ++ flag "server" cfg.serverAddr
          ++ flag "token" cfg.token
          ++ flag "token-file" cfg.tokenFile
          ++ flag "agent-token" cfg.agentToken
          ++ flag "agent-token-file" cfg.agentTokenFile
          ++ flag "config" cfg.configPath
          ++ each "disable" cfg.disable
          ++ flag "node-name" cfg.nodeName
          ++ each "node-label" cfg.nodeLabel
          ++ each "node-taint" cfg.nodeTaint
          ++ flag "node-ip" cfg.nodeIP
          ++ more
          ++ (if builtins.isList cfg.extraFlags then cfg.extraFlags else [ cfg.extraFlags ])
        );
      };
    };
in
{
  options.services.k3s = options "k3s" // {
    clusterInit = option types.bool false;
    disableAgent = option types.bool false;
  };
  options.services.rke2 = options "rke2" // {
    cni = option (types.nullOr (types.enum [ "none" "canal" "cilium" "calico" "flannel" ])) null;
    cisHardening = option types.bool false;
  };

  config = lib.mkMerge [
    (lib.mkIf config.services.k3s.enable {
      environment.systemPackages = [ config.services.k3s.package ];
      systemd.services.k3s = unit "k3s" (lib.optional config.services.k3s.clusterInit "--cluster-init");
      assertions = [
        {
          assertion = config.services.k3s.role == "agent" -> !config.services.k3s.clusterInit;
          message = "k3s: clusterInit must be false if role is 'agent'";
        }
      ];
    })
    (lib.mkIf config.services.rke2.enable {
      environment.systemPackages = [ config.services.rke2.package ];
      systemd.services."rke2-${config.services.rke2.role}" = unit "rke2" (
        lib.optional (config.services.rke2.cni != null) "--cni=${config.services.rke2.cni}"
      );
    })
  ];
}
