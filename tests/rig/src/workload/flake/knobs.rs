//! How machines and their units misbehave, as a test wants it.

use super::Flake;
use crate::runtime;

impl Flake {
    /// Whether a machine's units are down, whatever is applied: it founds nothing, joins nothing, and serves nothing. Its port is
    /// shut at once, its Node follows within a moment; one that is no longer dead comes up with what was applied last.
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

    /// Whether a machine's Node is not Ready although its units are up, now and after each apply.
    pub async fn node_not_ready(&self, machine: &str, not_ready: bool) {
        let _turn = self.inner.turn.lock().await;
        self.lock(|computers| computers.of(machine).not_ready = not_ready);
        self.show(machine).await;
    }

    /// The version that a machine's kubelet has from now on, `v1.38.0` for one.
    pub async fn kubelet_version(&self, machine: &str, version: &str) {
        let _turn = self.inner.turn.lock().await;
        self.lock(|computers| computers.of(machine).kubelet = Some(version.to_owned()));
        self.show(machine).await;
    }

    /// Control plane machines that come up from now on run no kubelet, and have no Node.
    pub fn no_kubelets_on_the_control_plane(&self) {
        self.lock(|computers| computers.without_kubelets = true);
    }

    /// A revision that kills: NIO applies what names this gitRepo well, but the units fail, the Node becomes `NotReady` and the API
    /// port is shut, until another gitRepo is applied. On one machine only, or on all.
    pub fn revision_kills(&self, git_repo: &str, only: Option<&str>) {
        let harmful = (git_repo.to_owned(), only.map(str::to_owned));
        self.lock(|computers| computers.kills.push(harmful));
    }

    /// A revision that cuts off: an apply of what names this gitRepo never succeeds, the units are down after it, and NIO does not
    /// reach the machine any more (its knob `unreachable`), until the test turns that back; then NIO applies what stands there.
    pub fn revision_cuts_off(&self, git_repo: &str, only: Option<&str>) {
        let harmful = (git_repo.to_owned(), only.map(str::to_owned));
        self.lock(|computers| computers.cuts_off.push(harmful));
    }
}
