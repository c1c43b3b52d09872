{
  description = "k0s on the machines of a KubernetesCluster";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";
    # nixpkgs has no k0s.
    k0s.url = "github:johbo/k0s-nix";
    k0s.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    { nixpkgs, k0s, ... }:
    {
      nixosConfigurations = import ../lib {
        inherit nixpkgs;
        directory = ./.;
        distribution = {
          member = {
            imports = [ ./member.nix ];
            nico.k0s.packages = k0s.packages;
          };
          minimal = ./minimal.nix;
        };
      };
    };
}
