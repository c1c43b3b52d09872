//! The state of each machine, and how an apply changes it: only decisions, without I/O.

use std::collections::BTreeMap;

use super::Founding;
use crate::machines::MachineHost;

/// What the last apply requests of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// The cluster's name.
    pub(super) cluster: String,
    /// The founding's id.
    pub(super) id: String,
    /// Whether the machine belongs to the control plane.
    pub(super) control_plane: bool,
    /// Whether it founds the cluster if it has no data.
    pub(super) founds: bool,
}

/// How an apply ends for a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It may start.
    Comes,
    /// Its units fail.
    Dies,
    /// Its units fail, and it can no longer be reached.
    CutOff,
}

/// What a machine does when its units start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It does nothing: it is dead, or waits for its cluster's founding.
    Stays,
    /// It continues with its data.
    Resumes,
    /// It founded the cluster. These machines have Nodes of clusters that no longer exist.
    Founds { left: Vec<String> },
    /// It has no data yet. With `anew`, it was in another cluster before: its Node, if any, is not in the store of the cluster that it
    /// joins.
    Joins { anew: bool },
}

/// One machine.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(super) struct Computer {
    pub(super) host: Option<MachineHost>,
    asked: Option<Asked>,
    /// The cluster's name and id of its data.
    data: Option<(String, String)>,
    /// The id of the cluster in which its Node was last registered.
    registered: Option<String>,
    /// Whether it started, and was not removed since.
    up: bool,
    /// Whether it started as a control plane machine.
    control_plane: bool,
    /// Whether the last applied configuration has killed it.
    broken: bool,
    /// Whether it is new, but a Node with its name exists, so that it retries.
    pub(super) refused: bool,
    pub(super) dead: bool,
    pub(super) not_ready: bool,
    pub(super) kubelet: Option<String>,
}

impl Computer {
    fn runs(&self) -> bool {
        self.up && !self.dead && !self.broken
    }

    /// Whether its API port answers.
    pub(super) fn serves(&self) -> bool {
        self.runs() && self.control_plane
    }
}

/// A harmful revision of the flake: its gitRepo, and the only machine that it affects (`None`: all).
pub(super) type Harmful = (String, Option<String>);

/// All machines of a world.
#[derive(Default)]
pub(super) struct Computers {
    known: BTreeMap<String, Computer>,
    pub(super) foundings: Vec<Founding>,
    pub(super) splits: Vec<Founding>,
    pub(super) refused: Vec<String>,
    pub(super) kills: Vec<Harmful>,
    pub(super) cuts_off: Vec<Harmful>,
    /// Whether control plane machines run without a kubelet.
    pub(super) without_kubelets: bool,
}

impl Computers {
    /// A machine.
    pub(super) fn of(&mut self, machine: &str) -> &mut Computer {
        self.known.entry(machine.to_owned()).or_default()
    }

    /// Notes that NIO applied this to a machine.
    pub(super) fn apply(&mut self, machine: &str, asked: Asked, git_repo: &str) -> Fate {
        let harms = |harmful: &[Harmful]| {
            harmful.iter().any(|(url, only)| {
                url == git_repo && only.as_ref().is_none_or(|only| only == machine)
            })
        };
        let fate = if harms(&self.cuts_off) {
            Fate::CutOff
        } else if harms(&self.kills) {
            Fate::Dies
        } else {
            Fate::Comes
        };
        let computer = self.of(machine);
        computer.asked = Some(asked);
        computer.broken = fate != Fate::Comes;
        fate
    }

    /// Decides what a machine does when its units start now.
    pub(super) fn step(&mut self, machine: &str) -> Step {
        let computer = self.of(machine);
        let Some(asked) = computer.asked.clone() else {
            return Step::Stays;
        };
        if computer.dead || computer.broken {
            return Step::Stays;
        }
        let data = (asked.cluster.clone(), asked.id.clone());
        if computer.data.as_ref() == Some(&data) {
            return Step::Resumes;
        }
        let anew = computer
            .registered
            .as_ref()
            .is_some_and(|id| *id != asked.id);
        if asked.founds {
            return self.found(machine, data);
        }
        if self
            .foundings
            .iter()
            .any(|founding| founding.id == asked.id)
        {
            Step::Joins { anew }
        } else {
            Step::Stays
        }
    }

    fn found(&mut self, machine: &str, data: (String, String)) -> Step {
        let founding = Founding {
            cluster: data.0.clone(),
            id: data.1.clone(),
            machine: machine.to_owned(),
        };
        let lives = |computer: &Computer| {
            let held = computer.data.as_ref();
            held.is_some_and(|(cluster, _)| *cluster == founding.cluster)
        };
        let mut others = self.known.iter().filter(|(other, _)| *other != machine);
        if others.any(|(_, computer)| lives(computer)) {
            self.splits.push(founding.clone());
        }
        self.foundings.push(founding);
        self.of(machine).data = Some(data);
        let held: Vec<&String> = self
            .known
            .values()
            .filter_map(|computer| computer.data.as_ref().map(|(_, id)| id))
            .collect();
        let gone = |computer: &Computer| {
            let registered = computer.registered.as_ref();
            registered.is_some_and(|id| !held.contains(&id))
        };
        let left: Vec<String> = self
            .known
            .iter()
            .filter(|(_, computer)| gone(computer))
            .map(|(name, _)| name.clone())
            .collect();
        for name in &left {
            self.of(name).registered = None;
        }
        Step::Founds { left }
    }

    /// The machines that waited for the cluster that this one founded.
    pub(super) fn waiting_for(&mut self, machine: &str) -> Vec<String> {
        let founded = self.of(machine).data.clone();
        let waits = |computer: &Computer| {
            let asked = computer.asked.as_ref();
            let data = asked.map(|asked| (asked.cluster.clone(), asked.id.clone()));
            data.is_some() && data == founded && computer.data != founded
        };
        let waiting = self.known.iter().filter(|(_, computer)| waits(computer));
        waiting.map(|(name, _)| name.clone()).collect()
    }

    /// Notes a new machine with the name of an existing Node; returns whether this was not known yet.
    pub(super) fn refuse(&mut self, machine: &str) -> bool {
        let news = !std::mem::replace(&mut self.of(machine).refused, true);
        if news {
            self.refused.push(machine.to_owned());
        }
        news
    }

    /// Notes that a new machine got the data of the cluster that it joins.
    pub(super) fn join(&mut self, machine: &str) {
        let computer = self.of(machine);
        let asked = computer.asked.as_ref();
        computer.data = asked.map(|asked| (asked.cluster.clone(), asked.id.clone()));
    }

    /// Notes that its units run; returns its host, and whether it belongs to the control plane.
    pub(super) fn start(&mut self, machine: &str) -> Option<(MachineHost, bool)> {
        let computer = self.of(machine);
        let asked = computer.asked.as_ref()?;
        computer.up = true;
        computer.control_plane = asked.control_plane;
        computer.registered = Some(asked.id.clone());
        computer.refused = false;
        Some((computer.host.clone()?, asked.control_plane))
    }

    /// Notes that NIO removed the configuration from a machine, together with its data.
    pub(super) fn remove(&mut self, machine: &str) -> Option<MachineHost> {
        let computer = self.of(machine);
        computer.asked = None;
        computer.data = None;
        computer.up = false;
        computer.broken = false;
        computer.refused = false;
        computer.host.clone()
    }

    /// Whether a machine's Node is Ready, and the version of its kubelet.
    pub(super) fn kubelet(&mut self, machine: &str) -> (bool, Option<String>) {
        let computer = self.of(machine);
        (
            computer.runs() && !computer.not_ready,
            computer.kubelet.clone(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, Computers, Fate, Step};

    fn asked(id: &str, founds: bool) -> Asked {
        Asked {
            cluster: "prod".into(),
            id: id.into(),
            control_plane: true,
            founds,
        }
    }

    fn came_up(computers: &mut Computers, machine: &str, asked: Asked) {
        assert_eq!(computers.apply(machine, asked, "good"), Fate::Comes);
        let step = computers.step(machine);
        assert_ne!(step, Step::Stays, "{machine}");
        if let Step::Joins { .. } = step {
            computers.join(machine);
        }
        computers.start(machine);
    }

    #[test]
    fn a_newcomer_is_told_from_a_machine_with_data() {
        let mut computers = Computers::default();
        computers.apply("b", asked("1", false), "good");
        assert_eq!(computers.step("b"), Step::Stays);
        came_up(&mut computers, "a", asked("1", true));
        assert_eq!(computers.waiting_for("a"), ["b"]);
        assert_eq!(computers.step("b"), Step::Joins { anew: false });
        came_up(&mut computers, "b", asked("1", false));
        computers.apply("b", asked("1", false), "good");
        assert_eq!(computers.step("b"), Step::Resumes);
        computers.remove("b");
        assert!(!computers.of("b").serves());
        computers.apply("b", asked("1", false), "good");
        assert_eq!(computers.step("b"), Step::Joins { anew: false });
        assert!(computers.refuse("b") && !computers.refuse("b"));
        assert_eq!(computers.refused, ["b"]);
    }

    #[test]
    fn a_new_cluster_has_no_nodes_of_the_one_before() {
        let mut computers = Computers::default();
        came_up(&mut computers, "a", asked("1", true));
        came_up(&mut computers, "b", asked("1", false));
        computers.remove("a");
        computers.remove("b");
        computers.apply("a", asked("2", true), "good");
        let left = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(computers.step("a"), Step::Founds { left });
        assert!(computers.splits.is_empty());
    }

    #[test]
    fn a_harmful_revision_kills_until_another_is_applied() {
        let mut computers = Computers::default();
        computers.kills.push(("bad".into(), None));
        computers.cuts_off.push(("worse".into(), Some("a".into())));
        came_up(&mut computers, "a", asked("1", true));
        assert!(computers.of("a").serves());
        assert_eq!(computers.apply("a", asked("1", true), "bad"), Fate::Dies);
        assert_eq!(computers.step("a"), Step::Stays);
        assert_eq!(
            (computers.of("a").serves(), computers.kubelet("a").0),
            (false, false)
        );
        came_up(&mut computers, "a", asked("1", true));
        assert!(computers.of("a").serves());
        assert_eq!(
            computers.apply("a", asked("1", true), "worse"),
            Fate::CutOff
        );
        assert_eq!(
            computers.apply("b", asked("1", false), "worse"),
            Fate::Comes
        );
    }
}
