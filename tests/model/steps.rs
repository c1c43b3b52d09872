//! What the planner wants done, in few bytes: its real actions become the steps of the model.

use nico::api::names::MachineName;
use nico::plan::action::{
    Action, ChildWrite, ConfigurationWrite, FinalizerWrite, LedgerWrite, Mark, NodeWork, SlotWrite,
};
use nico::plan::entered::EnteredWrite;
use nico::plan::writes::{Child, Precondition};
use serde_json::{Map, Value};

use crate::compact::{Broken, Estate};
use crate::objects::{self, READ_GENERATION};
use crate::planner::{Planner, View, lock};
use crate::state::{End, Step, Write};

impl Planner {
    /// A planned action in few bytes; none for what writes nothing.
    pub fn step(&self, view: &View, action: &Action) -> Option<Step> {
        let read = |machine: &MachineName, version: &Precondition| {
            assert_eq!(
                *version,
                objects::version(machine),
                "a write insists on the version that was read"
            );
            self.index(machine)
        };
        Some(match action {
            Action::Finalizer(FinalizerWrite::Add(..)) => Step::AddFinalizer,
            Action::Finalizer(FinalizerWrite::Remove(..)) => Step::RemoveFinalizer,
            Action::Ledger(LedgerWrite::Update(_, ledger)) => {
                Step::UpdateLedger(objects::slot(ledger, &self.names))
            }
            Action::Ledger(LedgerWrite::Create(ledger)) => {
                Step::CreateLedger(objects::slot(ledger, &self.names))
            }
            Action::Slot(SlotWrite::Take {
                machines, taken, ..
            }) => {
                let machines = machines.iter().map(|machine| 1 << self.index(machine));
                Step::Take(machines.sum(), objects::slot(taken, &self.names))
            }
            Action::Slot(SlotWrite::End {
                children, before, ..
            }) => {
                let children = children.iter();
                let touched = children.map(|(machine, child)| 1 << read(machine, child));
                let before = objects::slot(before, &self.names);
                Step::End(End::of(touched.sum(), before))
            }
            Action::Disrupt(disruptive) => match disruptive.write() {
                EnteredWrite::Rewrite(rewrite) => {
                    read(&rewrite.machine, &rewrite.version);
                    Step::Write(self.written(view, &rewrite.machine, &rewrite.body.render(), true))
                }
                EnteredWrite::Join(claim) => {
                    Step::Write(self.written(view, &claim.machine, &claim.body.render(), true))
                }
                EnteredWrite::DeleteNode { .. } => {
                    Step::DeleteNode(self.index(disruptive.machine()))
                }
                EnteredWrite::Release(version) => {
                    Step::Release(read(disruptive.machine(), version))
                }
                EnteredWrite::Drain { cordon, .. } => {
                    Step::Drain(self.index(disruptive.machine()), *cordon)
                }
            },
            Action::Configuration(write) => match write {
                ConfigurationWrite::Rewrite(rewrite) => {
                    read(&rewrite.machine, &rewrite.version);
                    Step::Write(self.written(view, &rewrite.machine, &rewrite.body.render(), false))
                }
                ConfigurationWrite::Claim(claim) => {
                    Step::Write(self.written(view, &claim.machine, &claim.body.render(), false))
                }
                ConfigurationWrite::GiveBack(name, version) => {
                    Step::GiveBack(read(&named(name), version))
                }
                ConfigurationWrite::Mark(name, version, mark) => {
                    let machine = read(&named(name), version);
                    match mark {
                        Mark::Confirmed(_) => Step::Confirm(machine),
                        Mark::Withdrawn => Step::Withdraw(machine),
                        Mark::Touched => Step::Touch(machine),
                        Mark::TakenBack(_)
                        | Mark::Restored(_)
                        | Mark::Forced(_)
                        | Mark::Settled(_) => return None,
                    }
                }
            },
            Action::Child(ChildWrite::CreateToken(token)) => {
                Step::CreateToken(place(Child::from(*token)))
            }
            Action::Child(ChildWrite::Delete(child)) => Step::DeleteChild(place(*child)),
            Action::Node(NodeWork::Undrain {
                machine, cordoned, ..
            }) => Step::Undrain(self.index(machine), *cordoned),
            Action::Node(NodeWork::Evict(_))
            | Action::Child(
                ChildWrite::LetGo(_) | ChildWrite::AddFinalizer(..) | ChildWrite::TakeBack(..),
            )
            | Action::Kubeconfig(_)
            | Action::ProbeWorkload
            | Action::Notify(_) => return None,
        })
    }

    pub fn written(&self, view: &View, name: &MachineName, body: &Value, entered: bool) -> Write {
        let machine = self.index(name);
        let held = view.children[usize::from(machine)];
        let mut spec: Map<String, Value> = body["spec"].as_object().unwrap().clone();
        let mut texts = lock(&self.texts);
        if let Some(child) = held {
            for (field, value) in texts.spec(child.held) {
                spec.entry(field).or_insert(value);
            }
        }
        let (text, marker) = texts.keep(spec);
        // The marker names the generation that it was written over, and no two writes rest on the same one.
        let number = marker.as_str().rsplit('-').next();
        let is_new = held.is_none() || number == Some(READ_GENERATION.to_string().as_str());
        let role = &body["metadata"]["labels"]["nico.homystack.com/role"];
        let leads = held.map_or(role == "control-plane", |held| held.leads);
        let kept = texts.get(text);
        let flaw = if kept.machine != name.as_str() {
            Some(Broken::I1)
        } else if kept.bootstrap && view.estate.children & Estate::KUBECONFIG != 0 {
            Some(Broken::I14)
        } else if is_new {
            None
        } else {
            Some(Broken::I15)
        };
        Write {
            machine,
            leads,
            text,
            rewritten: body["metadata"]["annotations"]["nico.homystack.com/rewritten"].is_string(),
            joins: held.is_none(),
            entered,
            flaw,
        }
    }
}

fn named(name: &str) -> MachineName {
    MachineName::parse(name).unwrap()
}

/// A write without an entry comes just after another look at the ledger.
pub fn after_its_check(step: Step) -> impl Iterator<Item = Step> {
    let is_checked = matches!(step, Step::Write(write) if !write.entered);
    let check = is_checked.then_some(Step::LedgerStands);
    check.into_iter().chain([step])
}

/// The bit of a child.
fn place(child: Child) -> u8 {
    match child {
        Child::JoinToken => 0,
        Child::WorkerToken => 1,
        Child::Kubeconfig => 2,
        Child::KnownHosts => 3,
        Child::Ledger => Estate::LEDGER,
    }
}
