# k3s and RKE2, which differ by names, ports and the way to found.
{
  # k3s or rke2.
  name,
  # The port at which machines join.
  joinPort,
  # Settings of the machine that founds.
  founding,
  # Settings of control plane machines whose addresses are IPv6.
  ipv6 ? { },
  # Services: of a control plane machine, of a worker.
  services,
  # TCP ports, beside those of all: of control plane machines.
  ports,
}:
let
  dataDir = id: "/var/lib/rancher/${name}-${id}";
in
{
  member =
    { config, lib, pkgs, nico, ... }:
    let
      inherit (nico) facts;
      inherit (facts) isControlPlane;
      service = if isControlPlane then services.server else services.agent;
      json = builtins.toJSON;
      tools = [
        pkgs.curl
        pkgs.gawk
        pkgs.gnugrep
        pkgs.iproute2
        pkgs.iptables
        pkgs.kubectl
        pkgs.procps
        pkgs.util-linux
      ];
      isIPv6 = facts.ip != null && facts.isIPv6 facts.ip;

      # A restart is due when these change, and for nothing else.
      settings =
        {
          data-dir = dataDir facts.id;
          node-name = facts.name;
        }
        // lib.optionalAttrs (facts.ip != null) { node-ip = facts.ip; }
        // lib.optionalAttrs isControlPlane ({
          agent-token-file = "/run/nico/worker-token";
          tls-san = facts.sans;
        } // lib.optionalAttrs isIPv6 ({
          cluster-cidr = "fd42:42::/56";
          service-cidr = "fd42:43::/112";
        } // ipv6))
        // config.nico.settings
        // lib.optionalAttrs isControlPlane config.nico.serverSettings;

      serverOf = machine: { server = facts.url machine.ip joinPort; };
      # A worker with data needs some server too: it knows the others from the last time.
      known = if facts.join != null then [ facts.join ] else lib.optionals (!isControlPlane) facts.peers;
    in
    {
      options.nico.settings = lib.mkOption {
        type = lib.types.attrsOf lib.types.anything;
        default = { };
        example = { node-label = [ "site=home" ]; };
        description = "More settings of ${name} on all machines, as in its configuration file.";
      };
      # An agent that finds a setting of servers does not start.
      options.nico.serverSettings = lib.mkOption {
        type = lib.types.attrsOf lib.types.anything;
        default = { };
        example = { disable = [ "traefik" ]; };
        description = "More settings of ${name} on control plane machines alone.";
      };

      config = {
        services.${name} = {
          enable = true;
          role = if isControlPlane then "server" else "agent";
          tokenFile = "/run/nico/join-token";
          # Written at each start, by start.sh.
          configPath = "/run/nico/config.yaml";
        };

        systemd.services.${service} = {
          # With a disk of its own that is not there, a founder would find no data and found again.
          unitConfig.RequiresMountsFor = [ (dataDir facts.id) ];
          path = tools;
          restartTriggers = [ (json settings) ];
          preStart =
            builtins.readFile ./common.sh
            + ''
              # There is a directory for each id: so only data of another role are in the way.
              set_aside() {
                clear_containers "$root/run/k3s/"
                delete "$root/var/lib/cni"
                rm -f "$root/etc/rancher/${name}/${name}.yaml"
                if [ "$1" = role ]; then keep "$root${dataDir facts.id}" "$root${dataDir facts.id}.released"; fi
              }
              begin() { install -D -m 0600 "$member/$1.yaml" "$run/config.yaml"; }
            ''
            + builtins.readFile ./start.sh;
          serviceConfig = {
            # The start of a member does not wait for the others, whose quorum may need this machine's next change.
            Type = lib.mkForce "exec";
            # A machine that waits in vain starts again. nico-joined fails the apply.
            TimeoutStartSec = lib.mkForce "15min";
          };
        };
        systemd.services.nico-joined = import ./joined.nix {
          inherit facts;
          path = tools;
        };

        nico.state =
          {
            data = "${dataDir facts.id}/${if isControlPlane then "server/db/etcd/member/wal" else "agent/kubelet.kubeconfig"}";
            kubeconfig =
              if isControlPlane then "/etc/rancher/${name}/${name}.yaml" else "${dataDir facts.id}/agent/kubelet.kubeconfig";
          }
          // lib.optionalAttrs facts.founds { "found.yaml" = json (settings // founding); }
          // lib.optionalAttrs (facts.join != null) {
            join = facts.url facts.join.ip joinPort;
            "join.yaml" = json (settings // serverOf facts.join);
          }
          // lib.optionalAttrs (isControlPlane || known != [ ]) {
            "member.yaml" = json (settings // (if known == [ ] then { } else serverOf (builtins.head known)));
          };

        networking.firewall = {
          # By port and not by address: a machine may join that this one does not list yet.
          allowedTCPPorts = [ 10250 ] ++ lib.optionals isControlPlane ports;
          # The pods' network, VXLAN.
          allowedUDPPorts = [ 8472 ];
          trustedInterfaces = [ "cni0" "flannel.1" "flannel-v6.1" ] ++ lib.optional (name == "rke2") "cali+";
        };
      };
    };

  minimal = {
    nico.leave = {
      services = [ services.server ] ++ (if services.agent == services.server then [ ] else [ services.agent ]);
      script = ''
        # The cluster's own controller removes the member on this request, and says so.
        leave_etcd() {
          local node
          node=$(value name)
          kube() { kubectl --kubeconfig "$root/etc/rancher/${name}/${name}.yaml" --server "$1" --request-timeout 10s "''${@:2}"; }
          kube "$1" annotate node "$node" --overwrite etcd.${name}.cattle.io/remove=true > /dev/null || return 1
          for _ in $(seq 10); do
            if kube "$1" get node "$node" -o yaml | grep -q "etcd.${name}.cattle.io/removed-node-name"; then return 0; fi
            sleep "''${NICO_INTERVAL:-5}"
          done
          return 1
        }
        take_off() {
          local data
          data=$root/var/lib/rancher/${name}-$(value id)
          clear_containers "$root/run/k3s/" "$data/"
          rm -f "$data"/server/{token,agent-token,node-token} "$data/server/cred/passwd"
          delete "$data/agent" "$data/data" "$root/etc/rancher/${name}" "$root/etc/rancher/node" "$root/var/lib/kubelet" "$root/var/lib/cni"
          # What remains is the server's part, etcd and the certificates, and local volumes.
          keep "$data" "$data.released"
        }
      '';
    };
  };
}
