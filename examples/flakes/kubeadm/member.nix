# A machine of a kubeadm cluster: containerd, the kubelet, and the unit that founds, joins or goes on.
{ config, lib, pkgs, nico, ... }:
let
  inherit (nico) facts;
  inherit (facts) isControlPlane;
  cfg = config.nico;
  kubernetes = pkgs.kubernetes;
  script = name: builtins.readFile ../lib/common.sh + builtins.readFile ./kubeadm.sh + builtins.readFile name;

  isIPv6 = facts.ip != null && facts.isIPv6 facts.ip;
  podSubnet = if isIPv6 then "fd42:42::/56" else "10.244.0.0/16";
  nodeRegistration = {
    inherit (facts) name;
    criSocket = "unix:///run/containerd/containerd.sock";
  }
  // lib.optionalAttrs (facts.ip != null) {
    kubeletExtraArgs = [
      {
        name = "node-ip";
        value = facts.ip;
      }
    ];
  }
  // lib.optionalAttrs (isControlPlane && cfg.workloadsOnControlPlane) { taints = [ ]; };
  localAPIEndpoint = {
    bindPort = cfg.apiPort;
  }
  // lib.optionalAttrs (facts.ip != null) { advertiseAddress = facts.ip; };

  # Several documents in one file. JSON is YAML. The scripts fill in @token@ and @key@, which are no part of the system.
  documents = lib.concatMapStringsSep "\n---\n" builtins.toJSON;
  kubeadmAPI = "kubeadm.k8s.io/v1beta4";
  init = documents [
    {
      apiVersion = kubeadmAPI;
      kind = "InitConfiguration";
      inherit nodeRegistration localAPIEndpoint;
      # A machine may join at any time: the token does not expire.
      bootstrapTokens = [
        {
          token = "@token@";
          ttl = "0s";
        }
      ];
      certificateKey = "@key@";
    }
    {
      apiVersion = kubeadmAPI;
      kind = "ClusterConfiguration";
      clusterName = facts.cluster.name;
      kubernetesVersion = "v${kubernetes.version}";
      controlPlaneEndpoint =
        if facts.endpoint != null then
          facts.authority facts.endpoint.host facts.endpoint.port
        else
          facts.authority facts.address cfg.apiPort;
      apiServer.certSANs = facts.sans;
      networking = { inherit podSubnet; } // lib.optionalAttrs isIPv6 { serviceSubnet = "fd42:43::/112"; };
    }
    {
      apiVersion = "kubelet.config.k8s.io/v1beta1";
      kind = "KubeletConfiguration";
      failSwapOn = false;
    }
  ];
  join = documents [
    (
      {
        apiVersion = kubeadmAPI;
        kind = "JoinConfiguration";
        inherit nodeRegistration;
        # The token proves who the API server is: it signs what is discovered there.
        discovery.bootstrapToken = {
          token = "@token@";
          apiServerEndpoint = facts.authority facts.join.ip cfg.apiPort;
          unsafeSkipCAVerification = true;
        };
      }
      // lib.optionalAttrs isControlPlane {
        controlPlane = {
          inherit localAPIEndpoint;
          certificateKey = "@key@";
        };
      }
    )
  ];

  tools = [
    kubernetes
    pkgs.cni-plugins
    pkgs.conntrack-tools
    pkgs.cri-tools
    pkgs.curl
    pkgs.ethtool
    pkgs.etcd
    pkgs.gawk
    pkgs.gnugrep
    pkgs.iproute2
    pkgs.iptables
    pkgs.kmod
    pkgs.openssl
    pkgs.procps
    pkgs.socat
    pkgs.util-linux
  ];
  deadMembers = import ../lib/dead-members.nix {
    path = tools;
    environment = {
      KUBECONFIG = "/etc/kubernetes/admin.conf";
      ETCDCTL_ENDPOINTS = "https://${if isIPv6 then "[::1]" else "127.0.0.1"}:2379";
      ETCDCTL_CACERT = "/etc/kubernetes/pki/etcd/ca.crt";
      ETCDCTL_CERT = "/etc/kubernetes/pki/etcd/healthcheck-client.crt";
      ETCDCTL_KEY = "/etc/kubernetes/pki/etcd/healthcheck-client.key";
    };
  };
in
{
  options.nico.workloadsOnControlPlane = lib.mkOption {
    type = lib.types.bool;
    default = false;
    description = "Whether control plane machines run workloads too.";
  };

  config = {
    assertions = [
      {
        assertion = facts.endpoint != null || builtins.length facts.controlPlane < 2;
        message = "kubeadm needs spec.controlPlaneEndpoint for more than one control plane machine. Set it before you add the second.";
      }
    ];

    boot.kernel.sysctl = {
      "net.ipv4.ip_forward" = 1;
      "net.ipv6.conf.all.forwarding" = 1;
      "net.bridge.bridge-nf-call-iptables" = 1;
      "net.bridge.bridge-nf-call-ip6tables" = 1;
    };
    virtualisation.containerd = {
      enable = true;
      settings.plugins."io.containerd.grpc.v1.cri" = {
        cni.bin_dir = lib.mkForce "/opt/cni/bin";
        containerd.runtimes.runc = {
          runtime_type = "io.containerd.runc.v2";
          options.SystemdCgroup = true;
        };
      };
    };
    # Where the pods' network puts its plugin too.
    systemd.tmpfiles.rules = [
      "d /opt/cni/bin 0755 root root -"
    ]
    ++ map (plugin: "L+ /opt/cni/bin/${plugin} - - - - ${pkgs.cni-plugins}/bin/${plugin}") [
      "bandwidth"
      "bridge"
      "firewall"
      "host-local"
      "loopback"
      "portmap"
      "tuning"
    ];
    environment.systemPackages = [ kubernetes pkgs.cri-tools ];

    # kubeadm starts it, and later nico-kubeadm: never before it is sure that the data are this cluster's.
    systemd.services.kubelet = {
      description = "The Kubernetes node agent";
      after = [ "containerd.service" ];
      wants = [ "containerd.service" ];
      path = tools;
      # Kubernetes 1.35 no longer knows this flag, which kubeadm wrote before. It told the kubelet what containerd knows by itself.
      preStart = ''
        flags=''${NICO_ROOT:-}/var/lib/kubelet/kubeadm-flags.env
        if grep -q -e --pod-infra-container-image= "$flags" 2> /dev/null; then
          sed -i -E 's/ ?--pod-infra-container-image=[^" ]*//' "$flags"
        fi
      '';
      serviceConfig = {
        EnvironmentFile = "-/var/lib/kubelet/kubeadm-flags.env";
        ExecStart = "${kubernetes}/bin/kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS";
        Restart = "always";
        RestartSec = 5;
        KillMode = "process";
      };
    };
    systemd.services.nico-kubeadm = {
      description = "Found the Kubernetes cluster, join it, or go on; and upgrade";
      # With a disk of its own that is not there, etcd would begin with no data.
      unitConfig.RequiresMountsFor = [ "/var/lib/etcd" "/etc/kubernetes" ];
      after = [ "containerd.service" "network-online.target" ];
      wants = [ "containerd.service" "network-online.target" ];
      wantedBy = [ "multi-user.target" ];
      path = tools;
      environment.KUBERNETES_VERSION = "v${kubernetes.version}";
      restartTriggers = [ facts.id (if isControlPlane then init else builtins.toJSON nodeRegistration) ];
      script = script ./begin.sh + builtins.readFile ../lib/start.sh;
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        # A machine that waits in vain fails in the end, so that NIO tries again. A slow one needs half an hour for an upgrade.
        TimeoutStartSec = "40min";
        Restart = "on-failure";
        # Long enough that the switch to a new system sees that it failed.
        RestartSec = 60;
      };
    };

    systemd.services.nico-upkeep = {
      description = "Keep addresses, certificates, tokens and the cluster's settings as they should be";
      path = tools;
      environment.KUBERNETES_VERSION = "v${kubernetes.version}";
      script = script ./upkeep.sh;
      # A timer starts it: a change is not a reason to wait for it.
      restartIfChanged = false;
      serviceConfig = {
        Type = "oneshot";
        # The wait for a start, and as long again for itself.
        TimeoutStartSec = "70min";
      };
    };
    # The uploaded certificates last for two hours.
    systemd.timers.nico-upkeep = {
      wantedBy = [ "timers.target" ];
      timerConfig = {
        OnActiveSec = "1min";
        OnUnitInactiveSec = "30min";
      };
      restartTriggers = [ (if isControlPlane then init else builtins.toJSON facts.endpoint) ];
    };

    systemd.services.nico-dead-members = lib.mkIf isControlPlane deadMembers.service;
    systemd.timers.nico-dead-members = lib.mkIf isControlPlane deadMembers.timer;

    nico.state = {
      data = "/etc/kubernetes/nico-${facts.id}";
      kubeconfig = "/etc/kubernetes/${if isControlPlane then "admin" else "kubelet"}.conf";
    }
    // lib.optionalAttrs isControlPlane {
      "init.yaml" = init;
      sans = lib.concatLines facts.sans;
      "network.json" = builtins.toJSON (import ./network.nix { inherit podSubnet isIPv6; });
    }
    // lib.optionalAttrs (facts.endpoint != null) {
      endpoint = facts.url facts.endpoint.host facts.endpoint.port;
    }
    // lib.optionalAttrs (facts.join != null) {
      join = facts.url facts.join.ip cfg.apiPort;
      "join.yaml" = join;
    };

    networking.firewall = {
      # By port and not by address: a machine may join that this one does not list yet.
      allowedTCPPorts = [ 10250 ] ++ lib.optionals isControlPlane [ cfg.apiPort 2379 2380 ];
      allowedUDPPorts = [ 8472 ];
      trustedInterfaces = [ "cni0" "flannel.1" "flannel-v6.1" ];
    };
  };
}
