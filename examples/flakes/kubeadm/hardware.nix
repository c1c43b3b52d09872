# What all machines have in common, and what a released one boots with. Replace it by what `nixos-generate-config` found on yours.
# `minimal` is the same for all machines, so disks are named by labels. What only one machine has goes to machines/<name>.nix.
{
  nixpkgs.hostPlatform = "x86_64-linux";
  system.stateVersion = "25.11";

  boot.loader.systemd-boot.enable = true;
  boot.loader.efi.canTouchEfiVariables = true;
  boot.initrd.availableKernelModules = [ "ahci" "nvme" "sd_mod" "usb_storage" "xhci_pci" ];
  hardware.enableRedistributableFirmware = true;

  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
  fileSystems."/boot" = {
    device = "/dev/disk/by-label/boot";
    fsType = "vfat";
  };

  # Your own key. The key that NIO uses is added by itself.
  users.users.root.openssh.authorizedKeys.keys = [ "ssh-ed25519 AAAA… you@example.com" ];

  # A laptop must not sleep when its lid is closed.
  systemd.targets = {
    sleep.enable = false;
    suspend.enable = false;
    hibernate.enable = false;
    hybrid-sleep.enable = false;
  };
}
