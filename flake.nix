# Templates of flakes for the clusters that NICO builds: `nix flake init -t <this repository>#k3s`. See examples/flakes/README.md.
{
  description = "Flakes for the clusters that NICO builds";

  outputs =
    _:
    let
      flakes = ./examples/flakes;
      template = title: name: {
        description = "${title} on machines that NICO and NIO manage";
        # The shared library, a sample of cluster.nix, and one distribution.
        path = builtins.path {
          name = "nico-${name}";
          path = flakes;
          filter =
            path: _:
            builtins.any (kept: builtins.match ".*/examples/flakes/${kept}(/.*)?" path != null) [ "lib" "sample" name ];
        };
        welcomeText = "Put your hardware into ${name}/hardware.nix, commit, and set spec.configurationSubdir to ${name}.";
      };
    in
    {
      templates = rec {
        k3s = template "k3s" "k3s";
        rke2 = template "RKE2" "rke2";
        kubeadm = template "Kubernetes by kubeadm" "kubeadm";
        k0s = template "k0s" "k0s";
        default = k3s;
      };
    };
}
