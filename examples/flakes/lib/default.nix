# The nixosConfigurations of a flake: one for each machine of cluster.nix, and minimal.
{
  # The flake's input.
  nixpkgs,
  # The flake's own directory, where NIO puts cluster.nix and the tokens.
  directory,
  # What runs the cluster: { member, minimal }, two modules.
  distribution,
}:
let
  inherit (nixpkgs) lib;
  file = path: directory + "/${path}";
  existing = path: lib.optional (builtins.pathExists (file path)) (file path);
  facts = cluster: name: import ./facts.nix { inherit lib cluster name; };

  system =
    facts: modules:
    lib.nixosSystem {
      # What the modules take as `nico`.
      specialArgs.nico = { inherit facts file; };
      modules = [ ./machine.nix ] ++ existing "hardware.nix" ++ modules;
    };

  member =
    cluster: name:
    system (facts cluster name) (
      [ ./member.nix distribution.member ] ++ existing "members.nix" ++ existing "machines/${name}.nix"
    );

  members =
    cluster:
    lib.genAttrs (lib.unique (map (machine: machine.name) (cluster.controlPlane ++ cluster.workers))) (member cluster);
in
# NIO adds cluster.nix. Without it there is no cluster yet.
lib.optionalAttrs (builtins.pathExists (file "cluster.nix")) (members (import (file "cluster.nix")))
// {
  minimal = system null [ ./minimal.nix distribution.minimal ];
}
