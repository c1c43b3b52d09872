# Options of NixOS by their documented names and types.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  option =
    type: default:
    mkOption { inherit type default; };
  required = type: mkOption { inherit type; };
  list = type: option (types.listOf type) [ ];
  set = type: option (types.attrsOf type) { };
  maybe = type: option (types.nullOr type) null;
  yes = option types.bool true;
  no = option types.bool false;
  text = option types.lines "";
  submodules = options: set (types.submodule { inherit options; });
  hostName = types.strMatching "^$|^[[:alnum:]]([[:alnum:]_-]{0,61}[[:alnum:]])?$";

  setting = types.nullOr (
    types.oneOf [
      types.bool
      types.int
      types.path
      types.package
      types.str
      (types.listOf types.str)
    ]
  );
  unit = {
    enable = yes;
    description = option types.str "";
    documentation = list types.str;
    after = list types.str;
    before = list types.str;
    bindsTo = list types.str;
    conflicts = list types.str;
    partOf = list types.str;
    requires = list types.str;
    requiredBy = list types.str;
    wants = list types.str;
    wantedBy = list types.str;
    unitConfig = set setting;
    restartTriggers = list types.unspecified;
    reloadTriggers = list types.unspecified;
    startLimitIntervalSec = option (types.nullOr types.int) null;
  };
  service = unit // {
    environment = set (types.nullOr (types.oneOf [ types.str types.path types.package ]));
    path = list (types.either types.package types.str);
    serviceConfig = set setting;
    script = text;
    scriptArgs = option types.str "";
    preStart = text;
    postStart = text;
    preStop = text;
    postStop = text;
    reload = text;
    restartIfChanged = yes;
    reloadIfChanged = no;
    stopIfChanged = yes;
    startAt = option (types.either types.str (types.listOf types.str)) [ ];
  };
  ports = {
    allowedTCPPorts = list types.port;
    allowedUDPPorts = list types.port;
    allowedTCPPortRanges = list (types.attrsOf types.port);
    allowedUDPPortRanges = list (types.attrsOf types.port);
  };
in
{
  options = {
    assertions = list types.unspecified;
    warnings = list types.str;

    boot.kernelModules = list types.str;
    boot.kernel.sysctl = set (types.nullOr (types.oneOf [ types.bool types.str types.int ]));
    boot.supportedFilesystems = list types.str;
    boot.swraid.enable = no;
    boot.loader.systemd-boot.enable = no;
    boot.loader.efi.canTouchEfiVariables = no;
    boot.initrd.availableKernelModules = list types.str;
    hardware.enableRedistributableFirmware = no;

    environment.etc = submodules {
      enable = yes;
      text = maybe types.lines;
      source = maybe types.path;
      mode = option types.str "symlink";
    };
    environment.systemPackages = list types.package;
    environment.variables = set (types.oneOf [ types.str types.path types.int ]);

    fileSystems = submodules {
      device = maybe types.nonEmptyStr;
      fsType = option types.nonEmptyStr "auto";
      options = option (types.listOf types.nonEmptyStr) [ "defaults" ];
    };
    swapDevices = list types.attrs;

    networking = {
      hostName = option hostName "nixos";
      domain = maybe types.str;
      useDHCP = yes;
      hosts = set (types.listOf types.str);
      extraHosts = text;
      nameservers = list types.str;
      dhcpcd.denyInterfaces = list types.str;
      firewall = ports // {
        enable = yes;
        trustedInterfaces = list types.str;
        checkReversePath = option (types.either types.bool (types.enum [ "strict" "loose" ])) true;
        extraCommands = text;
        extraInputRules = text;
        interfaces = submodules ports;
      };
      networkmanager.enable = no;
      networkmanager.unmanaged = list types.str;
    };

    nix.settings = option (types.attrsOf types.anything) { };
    nixpkgs.hostPlatform = required (types.either types.str types.attrs);
    nixpkgs.overlays = list types.raw;

    services.openssh = {
      enable = no;
      authorizedKeysFiles = list types.str;
      settings = option (types.attrsOf types.anything) { };
      openFirewall = yes;
    };
    services.keepalived = {
      enable = no;
      openFirewall = no;
      enableScriptSecurity = no;
      extraGlobalDefs = text;
      vrrpScripts = submodules {
        script = required types.str;
        interval = option types.int 1;
        timeout = option types.int 5;
        weight = option types.int 0;
        rise = option types.int 5;
        fall = option types.int 3;
        user = option types.str "keepalived_script";
        group = maybe types.str;
        extraConfig = text;
      };
      vrrpInstances = submodules {
        interface = required types.str;
        state = option (types.enum [ "MASTER" "BACKUP" ]) "BACKUP";
        virtualRouterId = required types.int;
        priority = option types.int 100;
        noPreempt = no;
        unicastSrcIp = maybe types.str;
        unicastPeers = list types.str;
        virtualIps = list (
          types.submodule {
            options = {
              addr = required types.str;
              brd = maybe types.str;
              dev = maybe types.str;
              scope = maybe types.str;
              label = maybe types.str;
            };
          }
        );
        trackScripts = list types.str;
        trackInterfaces = list types.str;
        extraConfig = text;
      };
    };

    system.stateVersion = required types.str;
    system.activationScripts = set (
      types.either types.str (
        types.submodule {
          options = {
            text = text;
            deps = list types.str;
            supportsDryActivation = no;
          };
        }
      )
    );

    systemd.services = submodules service;
    systemd.sockets = submodules (
      unit
      // {
        listenStreams = list types.str;
        socketConfig = set setting;
      }
    );
    systemd.timers = submodules (unit // { timerConfig = set setting; });
    systemd.targets = submodules unit;
    systemd.slices = submodules unit;
    systemd.tmpfiles.rules = list types.str;

    users.mutableUsers = yes;
    users.users = submodules {
      isNormalUser = no;
      isSystemUser = no;
      group = option types.str "";
      extraGroups = list types.str;
      home = option types.path "/var/empty";
      hashedPassword = maybe types.str;
      openssh.authorizedKeys.keys = list types.str;
      openssh.authorizedKeys.keyFiles = list types.path;
    };
    users.groups = submodules { };

    virtualisation.containerd = {
      enable = no;
      settings = option (types.attrsOf types.anything) { };
      args = option (types.attrsOf types.anything) { };
    };
  };
}
