# A machine of a k0s cluster. Control plane machines are Nodes too, by which NICO sees their health.
{ config, lib, pkgs, nico, ... }:
let
  inherit (nico) facts;
  inherit (facts) isControlPlane;
  cfg = config.nico;
  k0s = cfg.k0s.packages.${pkgs.stdenv.hostPlatform.system}.k0s;
  script = name: builtins.readFile ../lib/common.sh + builtins.readFile ./k0s.sh + builtins.readFile name;

  # A token to join contains the CA's certificate. With one of your own beside flake.nix, every machine has it. Without, the one control
  # plane machine hands its own out, and proves by the workers' token that it is its own.
  own = file: builtins.pathExists (nico.file file);
  ownCA = own "ca.crt";
  caPort = 9444;

  isIPv6 = facts.ip != null && facts.isIPv6 facts.ip;
  api =
    { inherit (facts) sans; }
    // lib.optionalAttrs (facts.ip != null) { address = facts.ip; };
  configuration = builtins.toJSON {
    apiVersion = "k0s.k0sproject.io/v1beta1";
    kind = "ClusterConfig";
    metadata.name = "k0s";
    spec = {
      inherit api;
      storage = {
        type = "etcd";
      }
      // lib.optionalAttrs (facts.ip != null) { etcd.peerAddress = facts.ip; };
      # Else a worker would know no API server but the one through which it joined, which may be replaced.
      network =
        lib.optionalAttrs ownCA {
          nodeLocalLoadBalancing = {
            enabled = true;
            type = "EnvoyProxy";
          };
        }
        // lib.optionalAttrs isIPv6 {
          podCIDR = "fd42:42::/56";
          serviceCIDR = "fd42:43::/112";
        };
      telemetry.enabled = false;
    };
  };

  # The kubeconfig in a token to join. k0s.sh fills in @ca@ and @token@, which are no part of the system.
  join =
    user: port:
    builtins.toJSON {
      apiVersion = "v1";
      kind = "Config";
      clusters = [
        {
          name = "k0s";
          cluster = {
            server = facts.url facts.join.ip port;
            certificate-authority-data = "@ca@";
          };
        }
      ];
      contexts = [
        {
          name = "k0s";
          context = {
            cluster = "k0s";
            inherit user;
          };
        }
      ];
      current-context = "k0s";
      users = [
        {
          name = user;
          user.token = "@token@";
        }
      ];
    };

  # The tokens that the cluster accepts. They do not expire: a machine may join at any time.
  secret = token: usage: {
    apiVersion = "v1";
    kind = "Secret";
    type = "bootstrap.kubernetes.io/token";
    metadata = {
      name = "bootstrap-token-@${token}-id@";
      namespace = "kube-system";
    };
    stringData = {
      token-id = "@${token}-id@";
      token-secret = "@${token}-secret@";
    }
    // usage;
  };
  tokens = builtins.toJSON {
    apiVersion = "v1";
    kind = "List";
    items = [
      (secret "worker" {
        usage-bootstrap-authentication = "true";
        usage-bootstrap-api-worker-calls = "true";
      })
      (secret "control" {
        usage-bootstrap-authentication = "false";
        usage-bootstrap-signing = "false";
        usage-controller-join = "true";
        usage-bootstrap-controller-join = "true";
      })
    ];
  };

  service = if isControlPlane then "k0scontroller" else "k0sworker";
  role = if isControlPlane then "controller --enable-worker --config=/var/lib/nico/member/k0s.yaml" else "worker";
  kubelet = lib.optionalString (facts.ip != null) " --kubelet-extra-args=--node-ip=${facts.ip}";
  tools = [
    pkgs.curl
    pkgs.etcd
    pkgs.gawk
    pkgs.gnugrep
    pkgs.gzip
    pkgs.iproute2
    pkgs.iptables
    pkgs.kmod
    pkgs.kubectl
    pkgs.procps
    pkgs.util-linux
  ];
  deadMembers = import ../lib/dead-members.nix {
    path = tools;
    environment = {
      KUBECONFIG = "/var/lib/k0s/pki/admin.conf";
      ETCDCTL_ENDPOINTS = "https://127.0.0.1:2379";
      ETCDCTL_CACERT = "/var/lib/k0s/pki/etcd/ca.crt";
      ETCDCTL_CERT = "/var/lib/k0s/pki/apiserver-etcd-client.crt";
      ETCDCTL_KEY = "/var/lib/k0s/pki/apiserver-etcd-client.key";
    };
  };
in
{
  options.nico.k0s.packages = lib.mkOption {
    type = lib.types.raw;
    description = "The packages of a flake that has k0s, by system.";
  };

  config = {
    assertions = [
      {
        assertion = ownCA || builtins.length facts.controlPlane < 2;
        message = "k0s needs ca.crt and ca.key beside flake.nix for more than one control plane machine.";
      }
      {
        assertion = own "ca.key" -> ownCA;
        message = "ca.key is there without ca.crt.";
      }
    ];

    environment.systemPackages = [ k0s ];
    systemd.services.${service} = {
      description = "k0s";
      # With a disk of its own that is not there, a founder would find no data and found again.
      unitConfig.RequiresMountsFor = [ "/var/lib/k0s" ];
      after = [ "network-online.target" ];
      wants = [ "network-online.target" ];
      wantedBy = [ "multi-user.target" ];
      path = tools;
      restartTriggers = [ facts.id ] ++ lib.optional isControlPlane configuration;
      preStart = script ./begin.sh + builtins.readFile ../lib/start.sh;
      serviceConfig = {
        # start.sh says in this file whether there is a token to join.
        EnvironmentFile = "-/run/nico/k0s.env";
        ExecStart = "${k0s}/bin/k0s ${role} --data-dir=/var/lib/k0s${kubelet} $NICO_JOIN";
        Type = "exec";
        KillMode = "process";
        Delegate = "yes";
        Restart = "always";
        RestartSec = "5s";
        LimitNOFILE = 999999;
        LimitCORE = "infinity";
        TasksMax = "infinity";
        # A machine that waits in vain starts again. nico-joined fails the apply.
        TimeoutStartSec = "15min";
      };
    };
    systemd.services.nico-joined = import ../lib/joined.nix {
      inherit facts;
      path = tools;
    };
    # k0s runs its parts as these users.
    users.users = lib.mkIf isControlPlane (
      lib.genAttrs [ "etcd" "konnectivity-server" "kube-apiserver" "kube-scheduler" ] (_: {
        isSystemUser = true;
        group = "nogroup";
      })
    );

    systemd.sockets.nico-ca = lib.mkIf (isControlPlane && !ownCA) {
      description = "Hand out the certificate of the cluster's CA";
      wantedBy = [ "sockets.target" ];
      listenStreams = [ (toString caPort) ];
      socketConfig.Accept = true;
    };
    systemd.services."nico-ca@" = lib.mkIf (isControlPlane && !ownCA) {
      description = "Hand out the certificate of the cluster's CA";
      script = script ./hand-out-ca.sh;
      serviceConfig = {
        StandardInput = "socket";
        StandardOutput = "socket";
        StandardError = "journal";
        # Whoever keeps a connection open ends with it.
        RuntimeMaxSec = "10s";
      };
    };

    systemd.services.nico-dead-members = lib.mkIf isControlPlane deadMembers.service;
    systemd.timers.nico-dead-members = lib.mkIf isControlPlane deadMembers.timer;

    nico.state = {
      data = if isControlPlane then "/var/lib/k0s/etcd/member/wal" else "/var/lib/k0s/kubelet.conf";
      kubeconfig = if isControlPlane then "/var/lib/k0s/pki/admin.conf" else "/var/lib/k0s/kubelet.conf";
    }
    // lib.optionalAttrs isControlPlane {
      "k0s.yaml" = configuration;
      "tokens.json" = tokens;
    }
    // lib.optionalAttrs ownCA { "ca.crt" = builtins.readFile (nico.file "ca.crt"); }
    // lib.optionalAttrs (facts.join != null) (
      {
        join = facts.url facts.join.ip (if isControlPlane then 9443 else cfg.apiPort);
        "join.json" = if isControlPlane then join "controller-bootstrap" 9443 else join "kubelet-bootstrap" cfg.apiPort;
      }
      // lib.optionalAttrs (!ownCA) { ca = "http://${facts.authority facts.join.ip caPort}/"; }
    );
    # The key of a CA of your own is needed where the cluster is founded.
    system.activationScripts.nico-ca = lib.mkIf (facts.founds && own "ca.key") ''
      install -D -m 0400 ${builtins.path { path = nico.file "ca.key"; name = "ca.key"; }} /run/nico/ca.key
    '';

    networking.firewall = {
      # By port and not by address: a machine may join that this one does not list yet.
      allowedTCPPorts = [ 10250 179 ] ++ lib.optionals isControlPlane ([ cfg.apiPort 2380 8132 9443 ] ++ lib.optional (!ownCA) caPort);
      trustedInterfaces = [ "kube-bridge" ];
    };
  };
}
