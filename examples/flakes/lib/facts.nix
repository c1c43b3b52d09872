# What one machine reads from cluster.nix. Plain functions of plain data: no option and no package.
{
  lib,
  # The attribute set that NICO writes.
  cluster,
  # The machine's name.
  name,
}:
let
  # The result must not depend on the order of the lists.
  sorted = lib.sort (a: b: a.name < b.name || (a.name == b.name && a.ip < b.ip));
  controlPlane = sorted cluster.controlPlane;
  workers = sorted cluster.workers;
  machines = controlPlane ++ workers;
  find = builtins.filter (machine: machine.name == name);

  bare = lib.replaceStrings [ "[" "]" ] [ "" "" ];
  isIPv6 = address: builtins.match "[0-9a-fA-F:.]*:[0-9a-fA-F:.]*" address != null;
  isIP = address: isIPv6 address || builtins.match "[0-9]+([.][0-9]+){3}" address != null;
in
rec {
  inherit cluster name controlPlane workers isIPv6 isIP;
  inherit (cluster) id;

  # Whether the machine belongs to the control plane. Where it is in no list, it is not in the cluster.
  isControlPlane = find controlPlane != [ ];
  isListed = find machines != [ ];

  # The machine's own address: an IP address, or a name where NIO knows it by that.
  address = bare (builtins.head (find machines)).ip;
  # The address where it is an IP address, else null.
  ip = if isIP address then address else null;

  # A machine that founds, or else the machine to join: never both. Without either, a machine goes on with its data or starts nothing.
  founds = isControlPlane && cluster.bootstrap == name;
  join = if cluster.join == null || cluster.join.name == name || founds then null else cluster.join;

  # The other control plane machines, as far as this cluster.nix lists them. A new one may come that is not listed.
  peers = builtins.filter (machine: machine.name != name) controlPlane;

  # An address as it stands in a URL, with a port: IPv6 in brackets.
  authority = host: port: "${if isIPv6 (bare host) then "[${bare host}]" else host}:${toString port}";
  url = host: port: "https://${authority host port}";

  # The address in front of the control plane, else null.
  endpoint = if cluster.endpoint == null then null else cluster.endpoint // { host = bare cluster.endpoint.host; };
  # What the certificate of this machine's API server has to cover, without brackets.
  sans = lib.unique ([ address name ] ++ lib.optional (endpoint != null) endpoint.host);

  # networking.hosts of all machines whose address is an IP address.
  hosts = lib.mapAttrs (_: here: lib.unique (map (machine: machine.name) here)) (
    lib.groupBy (machine: bare machine.ip) (builtins.filter (machine: isIP (bare machine.ip)) machines)
  );
}
