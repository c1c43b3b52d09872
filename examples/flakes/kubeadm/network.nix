# The pods' network: flannel, VXLAN. Put another in its place as you like.
{ podSubnet, isIPv6 }:
let
  namespace = "kube-flannel";
  meta = name: { inherit name namespace; };
  version = "v0.27.4";
  install = name: image: from: to: volumeMounts: {
    inherit name image volumeMounts;
    command = [ "cp" ];
    args = [ "-f" from to ];
  };
  mount = name: mountPath: { inherit name mountPath; };
  host = name: path: {
    inherit name;
    hostPath = { inherit path; };
  };
  variable = name: fieldPath: {
    inherit name;
    valueFrom.fieldRef = { inherit fieldPath; };
  };
  rule = apiGroups: resources: verbs: { inherit apiGroups resources verbs; };
in
{
  apiVersion = "v1";
  kind = "List";
  items = [
    {
      apiVersion = "v1";
      kind = "Namespace";
      metadata.name = namespace;
      metadata.labels."pod-security.kubernetes.io/enforce" = "privileged";
    }
    {
      apiVersion = "v1";
      kind = "ServiceAccount";
      metadata = meta "flannel";
    }
    {
      apiVersion = "rbac.authorization.k8s.io/v1";
      kind = "ClusterRole";
      metadata.name = "flannel";
      rules = [
        (rule [ "" ] [ "pods" ] [ "get" ])
        (rule [ "" ] [ "nodes" ] [ "get" "list" "watch" ])
        (rule [ "" ] [ "nodes/status" ] [ "patch" ])
      ];
    }
    {
      apiVersion = "rbac.authorization.k8s.io/v1";
      kind = "ClusterRoleBinding";
      metadata.name = "flannel";
      roleRef = {
        apiGroup = "rbac.authorization.k8s.io";
        kind = "ClusterRole";
        name = "flannel";
      };
      subjects = [ (meta "flannel" // { kind = "ServiceAccount"; }) ];
    }
    {
      apiVersion = "v1";
      kind = "ConfigMap";
      metadata = meta "kube-flannel-cfg";
      data."cni-conf.json" = builtins.toJSON {
        name = "cbr0";
        cniVersion = "0.3.1";
        plugins = [
          {
            type = "flannel";
            delegate = {
              hairpinMode = true;
              isDefaultGateway = true;
            };
          }
          {
            type = "portmap";
            capabilities.portMappings = true;
          }
        ];
      };
      data."net-conf.json" = builtins.toJSON (
        {
          Backend.Type = "vxlan";
        }
        // (
          if isIPv6 then
            {
              EnableIPv4 = false;
              EnableIPv6 = true;
              IPv6Network = podSubnet;
            }
          else
            { Network = podSubnet; }
        )
      );
    }
    {
      apiVersion = "apps/v1";
      kind = "DaemonSet";
      metadata = meta "kube-flannel-ds";
      spec = {
        selector.matchLabels.app = "flannel";
        template = {
          metadata.labels.app = "flannel";
          spec = {
            nodeSelector."kubernetes.io/os" = "linux";
            hostNetwork = true;
            priorityClassName = "system-node-critical";
            tolerations = [
              {
                operator = "Exists";
                effect = "NoSchedule";
              }
            ];
            serviceAccountName = "flannel";
            initContainers = [
              (install "install-cni-plugin" "ghcr.io/flannel-io/flannel-cni-plugin:v1.8.0-flannel1" "/flannel" "/opt/cni/bin/flannel" [
                (mount "cni-plugin" "/opt/cni/bin")
              ])
              (install "install-cni" "ghcr.io/flannel-io/flannel:${version}" "/etc/kube-flannel/cni-conf.json"
                "/etc/cni/net.d/10-flannel.conflist"
                [
                  (mount "cni" "/etc/cni/net.d")
                  (mount "flannel-cfg" "/etc/kube-flannel/")
                ]
              )
            ];
            containers = [
              {
                name = "kube-flannel";
                image = "ghcr.io/flannel-io/flannel:${version}";
                command = [ "/opt/bin/flanneld" ];
                args = [ "--ip-masq" "--kube-subnet-mgr" ];
                resources.requests = {
                  cpu = "100m";
                  memory = "50Mi";
                };
                securityContext = {
                  privileged = false;
                  capabilities.add = [ "NET_ADMIN" "NET_RAW" ];
                };
                env = [
                  (variable "POD_NAME" "metadata.name")
                  (variable "POD_NAMESPACE" "metadata.namespace")
                ];
                volumeMounts = [
                  (mount "run" "/run/flannel")
                  (mount "flannel-cfg" "/etc/kube-flannel/")
                  (mount "xtables-lock" "/run/xtables.lock")
                ];
              }
            ];
            volumes = [
              (host "run" "/run/flannel")
              (host "cni-plugin" "/opt/cni/bin")
              (host "cni" "/etc/cni/net.d")
              {
                name = "flannel-cfg";
                configMap.name = "kube-flannel-cfg";
              }
              {
                name = "xtables-lock";
                hostPath = {
                  path = "/run/xtables.lock";
                  type = "FileOrCreate";
                };
              }
            ];
          };
        };
      };
    }
  ];
}
