{
  description = "Kubernetes by kubeadm on the machines of a KubernetesCluster";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";

  outputs =
    { nixpkgs, ... }:
    {
      nixosConfigurations = import ../lib {
        inherit nixpkgs;
        directory = ./.;
        distribution = {
          member = ./member.nix;
          minimal = ./minimal.nix;
        };
      };
    };
}
