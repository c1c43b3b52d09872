# The module system: modules with imports, options and config become one configuration. A definition of an option that nobody declares
# is an error.
{
  lib,
  modules,
  specialArgs,
  prefix ? "",
}:
let
  inherit (builtins) concatMap isAttrs isFunction;

  load =
    module:
    let
      content = if builtins.isPath module || builtins.isString module then import module else module;
      set = if isFunction content then content (specialArgs // { inherit config; }) else content;
      plain = set ? config || set ? options;
      unknown = builtins.attrNames (builtins.removeAttrs set [ "imports" "options" "config" "_file" "key" ]);
    in
    if plain && unknown != [ ] then
      throw "A module has the attributes ${toString unknown} beside `config' or `options'"
    else
      [
        {
          options = set.options or { };
          config = if plain then set.config or { } else builtins.removeAttrs set [ "imports" "_file" "key" ];
        }
      ]
      ++ concatMap load (set.imports or [ ]);

  loaded = concatMap load modules;

  isOption = value: isAttrs value && (value._type or "") == "option";

  # The options and the definitions of one level: mkIf and mkMerge around whole sets are pushed inwards.
  pushed =
    value:
    if isAttrs value && (value._type or "") == "if" then
      map (builtins.mapAttrs (_: lib.mkIf value.condition)) (pushed value.content)
    else if isAttrs value && (value._type or "") == "merge" then
      concatMap pushed value.contents
    else if isAttrs value && (value._type or "") == "override" then
      map (builtins.mapAttrs (_: lib.mkOverride value.priority)) (pushed value.content)
    else
      [ value ];

  level =
    location: declared: definitions:
    let
      options = builtins.zipAttrsWith (_: all: all) declared;
      sets = concatMap pushed definitions;
      defined = builtins.zipAttrsWith (_: all: all) sets;
      named = name: if location == "" then name else "${location}.${name}";
      unknown = builtins.filter (name: !(options ? ${name})) (builtins.attrNames defined);
      value =
        name: all:
        let
          values = defined.${name} or [ ];
          option = builtins.head all;
          own = lib.discharged values;
        in
        if isOption option then
          if builtins.length all > 1 then
            throw "The option `${named name}' is declared twice"
          else
            option.apply (
              if own == [ ] && option.hasDefault then option.default else lib.merged (named name) option.type values
            )
        else
          level (named name) all values;
    in
    if unknown != [ ] then
      throw "The option `${named (builtins.head unknown)}' does not exist"
    else
      builtins.mapAttrs value options;

  config = level prefix (map (module: module.options) loaded) (map (module: module.config) loaded);
in
{
  inherit config;
}
