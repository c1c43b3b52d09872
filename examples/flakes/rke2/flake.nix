{
  description = "RKE2 on the machines of a KubernetesCluster";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";

  outputs =
    { nixpkgs, ... }:
    {
      nixosConfigurations = import ../lib {
        inherit nixpkgs;
        directory = ./.;
        distribution = import ../lib/rancher.nix {
          name = "rke2";
          joinPort = 9345;
          # RKE2 founds a cluster wherever `server` is absent. The start script lets it do so only on the machine that founds.
          founding = { };
          services = {
            server = "rke2-server";
            agent = "rke2-agent";
          };
          ports = [ 6443 9345 2379 2380 2381 ];
        };
      };
    };
}
