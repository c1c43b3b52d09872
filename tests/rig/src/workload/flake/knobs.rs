//! Knobs for misbehaving machines and units.

use super::Flake;
use crate::runtime;

impl Flake {
    /// Sets whether a machine's units are down, whatever is applied: it founds nothing, joins nothing, and serves nothing. Its port is
    /// closed at once, and its Node follows soon. When this is reset, it starts with what was applied last.
    pub fn dead(&self, machine: &str, dead: bool) {
        self.lock(|computers| computers.of(machine).dead = dead);
        self.show_port(machine);
        let (flake, machine) = (self.clone(), machine.to_owned());
        runtime().spawn(async move {
            let _turn = flake.inner.turn.lock().await;
            flake.show(&machine).await;
            flake.come_up(&machine).await;
        });
    }

    /// Sets whether a machine's Node is not Ready although its units are up, now and after each apply.
    pub async fn node_not_ready(&self, machine: &str, not_ready: bool) {
        let _turn = self.inner.turn.lock().await;
        self.lock(|computers| computers.of(machine).not_ready = not_ready);
        self.show(machine).await;
    }

    /// Sets the version of a machine's kubelet, such as `v1.38.0`.
    pub async fn kubelet_version(&self, machine: &str, version: &str) {
        let _turn = self.inner.turn.lock().await;
        self.lock(|computers| computers.of(machine).kubelet = Some(version.to_owned()));
        self.show(machine).await;
    }

    /// Makes control plane machines that start from now on run without a kubelet, so that they have no Node.
    pub fn no_kubelets_on_the_control_plane(&self) {
        self.lock(|computers| computers.without_kubelets = true);
    }

    /// Makes a gitRepo kill machines: NIO applies it successfully, but the units fail, the Node becomes `NotReady`, and the API port is
    /// closed, until another gitRepo is applied. It affects one machine, or all.
    pub fn revision_kills(&self, git_repo: &str, only: Option<&str>) {
        let harmful = (git_repo.to_owned(), only.map(str::to_owned));
        self.lock(|computers| computers.kills.push(harmful));
    }

    /// Makes a gitRepo cut machines off: its apply never succeeds, the units are down after it, and NIO cannot reach the machine (its knob
    /// `unreachable`) until the test resets that. Then NIO applies the current configuration.
    pub fn revision_cuts_off(&self, git_repo: &str, only: Option<&str>) {
        let harmful = (git_repo.to_owned(), only.map(str::to_owned));
        self.lock(|computers| computers.cuts_off.push(harmful));
    }
}
