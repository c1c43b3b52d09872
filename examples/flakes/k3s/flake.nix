{
  description = "k3s on the machines of a KubernetesCluster";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";

  outputs =
    { nixpkgs, ... }:
    {
      nixosConfigurations = import ../lib {
        inherit nixpkgs;
        directory = ./.;
        distribution = import ../lib/rancher.nix {
          name = "k3s";
          joinPort = 6443;
          # etcd from the first machine on, so that one may become three.
          founding = { cluster-init = true; };
          ipv6 = { flannel-ipv6-masq = true; };
          services = {
            server = "k3s";
            agent = "k3s";
          };
          ports = [ 6443 2379 2380 ];
        };
      };
    };
}
