# Functions of nixpkgs' library, as its manual documents them.
let
  inherit (builtins) concatStringsSep elemAt filter foldl' genList hasAttr head isAttrs length listToAttrs match replaceStrings;
  order = priority: content: {
    _type = "override";
    inherit priority content;
  };
  wellTyped = name: check: merge: { inherit name check merge; };
  # The one definition, or several that say the same.
  equal =
    location: values:
    if builtins.all (value: value == head values) values then
      head values
    else
      throw "The option `${location}' has conflicting definition values";
in
rec {
  inherit (builtins)
    all any attrNames attrValues concatMap elem filter foldl' genList head isAttrs isList isString length listToAttrs replaceStrings sort tail toJSON;
  inherit concatStringsSep;

  id = value: value;
  optional = condition: value: if condition then [ value ] else [ ];
  optionals = condition: list: if condition then list else [ ];
  optionalString = condition: text: if condition then text else "";
  optionalAttrs = condition: set: if condition then set else { };
  mapAttrs = builtins.mapAttrs;
  mapAttrsToList = f: set: map (name: f name set.${name}) (builtins.attrNames set);
  nameValuePair = name: value: { inherit name value; };
  mapAttrs' = f: set: listToAttrs (mapAttrsToList f set);
  filterAttrs = keep: set: listToAttrs (filter (pair: keep pair.name pair.value) (mapAttrsToList nameValuePair set));
  genAttrs = names: f: listToAttrs (map (name: nameValuePair name (f name)) names);
  groupBy = builtins.groupBy;
  unique = foldl' (seen: one: if builtins.elem one seen then seen else seen ++ [ one ]) [ ];
  concatMapStringsSep = separator: f: list: concatStringsSep separator (map f list);
  concatMapStrings = concatMapStringsSep "";
  concatLines = concatMapStrings (line: line + "\n");
  hasPrefix = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;
  hasInfix = infix: text: builtins.length (builtins.split (escapeRegex infix) text) > 1;
  escapeRegex = replaceStrings [ "\\" "[" "]" "." "*" "(" ")" "{" "}" "+" "?" "|" "^" "$" ] [ "\\\\" "\\[" "\\]" "\\." "\\*" "\\(" "\\)" "\\{" "\\}" "\\+" "\\?" "\\|" "\\^" "\\$" ];
  removeSuffix =
    suffix: text:
    let
      kept = builtins.stringLength text - builtins.stringLength suffix;
    in
    if kept >= 0 && builtins.substring kept (-1) text == suffix then builtins.substring 0 kept text else text;
  escapeShellArg = value: "'${replaceStrings [ "'" ] [ "'\\''" ] (toString value)}'";
  escapeShellArgs = concatMapStringsSep " " escapeShellArg;

  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  mkOverride = order;
  mkForce = order 50;
  mkDefault = order 1000;
  mkOption =
    {
      type,
      default ? null,
      ...
    }@given:
    {
      _type = "option";
      inherit type;
      hasDefault = given ? default;
      inherit default;
      apply = given.apply or id;
    };
  mkEnableOption =
    _:
    mkOption {
      type = types.bool;
      default = false;
    };

  types = rec {
    bool = wellTyped "bool" builtins.isBool equal;
    int = wellTyped "int" builtins.isInt equal;
    port = wellTyped "port" (value: builtins.isInt value && value >= 0 && value <= 65535) equal;
    str = wellTyped "str" builtins.isString equal;
    nonEmptyStr = wellTyped "nonEmptyStr" (value: builtins.isString value && match "[[:space:]]*" value == null) equal;
    strMatching = pattern: wellTyped "strMatching" (value: builtins.isString value && match pattern value != null) equal;
    lines = wellTyped "lines" builtins.isString (_: concatStringsSep "\n");
    path = wellTyped "path" (value: (builtins.isPath value) || hasPrefix "/" (toString value)) equal;
    package = wellTyped "package" (value: isAttrs value && (value.type or "") == "derivation") equal;
    raw = wellTyped "raw" (_: true) equal;
    unspecified = raw;
    # As in nixpkgs: attribute sets and lists merge, all else is equal.
    anything = wellTyped "anything" (_: true) (
      location: values:
      if builtins.all isAttrs values && !(builtins.any (value: value ? outPath) values) then
        (attrsOf anything).merge location values
      else
        equal location values
    );
    attrs = wellTyped "attrs" isAttrs (_: foldl' (all: one: all // one) { });
    enum = allowed: wellTyped "enum" (value: builtins.elem value allowed) equal;
    nullOr =
      type:
      wellTyped "nullOr" (value: value == null || type.check value) (
        location: values: if builtins.all (value: value == null) values then null else type.merge location values
      );
    either =
      first: second:
      wellTyped "either" (value: first.check value || second.check value) (
        location: values: if builtins.all first.check values then first.merge location values else second.merge location values
      );
    oneOf = all: foldl' either (head all) (builtins.tail all);
    listOf =
      type:
      wellTyped "listOf" builtins.isList (
        location: values:
        map (value: merged "${location}.*" type [ value ]) (builtins.concatLists values)
      );
    attrsOf =
      type:
      wellTyped "attrsOf" isAttrs (
        location: values:
        builtins.mapAttrs (name: definitions: merged "${location}.${name}" type definitions) (
          filterAttrs (_: definitions: discharged definitions != [ ]) (builtins.zipAttrsWith (_: all: all) values)
        )
      );
    submodule =
      module:
      wellTyped "submodule" isAttrs (
        location: values:
        (import ./modules.nix {
          lib = import ./lib.nix;
          modules = [ module ] ++ map (value: { config = value; }) values;
          specialArgs = {
            lib = import ./lib.nix;
          };
          prefix = location;
        }).config
      );
  };

  # The values that stand after mkIf, mkMerge and mkForce, of the strongest priority only.
  discharged =
    definitions:
    let
      flat =
        priority: value:
        if isAttrs value && value ? _type then
          {
            "if" = optionals value.condition (flat priority value.content);
            merge = builtins.concatMap (flat priority) value.contents;
            override = flat value.priority value.content;
            option = [ { inherit priority value; } ];
          }
          .${value._type}
        else
          [ { inherit priority value; } ];
      all = builtins.concatMap (flat 100) definitions;
      strongest = foldl' (best: one: if one.priority < best then one.priority else best) 9999 all;
    in
    map (one: one.value) (filter (one: one.priority == strongest) all);

  # One value out of all definitions.
  merged =
    location: type: definitions:
    let
      values = discharged definitions;
      wrong = filter (value: !(type.check value)) values;
    in
    if values == [ ] then
      throw "The option `${location}' is used but not defined"
    else if wrong != [ ] then
      throw "A definition for option `${location}' is not of type `${type.name}'"
    else
      type.merge location values;
}
