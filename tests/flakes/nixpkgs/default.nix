# A stand-in for nixpkgs, for machines without network: the functions of its library, and the options of NixOS, that the example flakes
# use, by their documented names and types. What it does not know is an error, as it is in NixOS.
let
  lib = import ./lib.nix;
  pkgs = import ./pkgs.nix { inherit lib; };
in
{
  lib = lib // {
    nixosSystem =
      {
        modules,
        specialArgs ? { },
      }:
      import ./modules.nix {
        inherit lib;
        modules = [ (import ./options.nix) (import ./rancher.nix) ] ++ modules;
        specialArgs = specialArgs // {
          inherit lib pkgs;
        };
      };
  };
}
