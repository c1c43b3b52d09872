//! The table: one line a figure, and at the end which goals were met.

use std::collections::BTreeMap;
use std::io::Write;

use crate::usage::Usage;

/// The goals that were looked at.
#[derive(Default)]
pub(crate) struct Report {
    goals: Vec<(String, bool)>,
}

/// What a figure may be at the most.
pub(crate) enum Goal {
    /// It is only told.
    None,
    /// At most this.
    Most(f64),
    /// Not more than a tenth away from this.
    About(f64),
}

impl Report {
    /// One figure.
    pub(crate) fn figure(&mut self, name: &str, value: f64, unit: &str, goal: &Goal) {
        let (met, wanted) = match goal {
            Goal::None => (None, String::new()),
            Goal::Most(most) => (Some(value <= *most), format!("goal: at most {most:.2}")),
            Goal::About(about) => {
                let near = (value - about).abs() <= about.abs() * 0.1;
                (Some(near), format!("goal: {about:.2}, within 10 %"))
            }
        };
        let verdict = match met {
            None => "",
            Some(true) => "  met",
            Some(false) => "  MISSED",
        };
        say(format!("  {name:<58} {value:>10.2} {unit:<9} {wanted}{verdict}").trim_end());
        if let Some(met) = met {
            self.goals
                .push((format!("{name}: {value:.2} {unit} ({wanted})"), met));
        }
    }

    /// Says which goals were met.
    pub(crate) fn conclude(&self) {
        let sorted: BTreeMap<bool, Vec<&str>> =
            self.goals
                .iter()
                .fold(BTreeMap::new(), |mut sorted, (goal, met)| {
                    sorted
                        .entry(*met)
                        .or_insert_with(Vec::new)
                        .push(goal.as_str());
                    sorted
                });
        for (met, word) in [(true, "Met"), (false, "Missed")] {
            let goals = sorted.get(&met).map_or(&[][..], Vec::as_slice);
            say(&format!(
                "\n{word}: {} of {}",
                goals.len(),
                self.goals.len()
            ));
            for goal in goals {
                say(&format!("  {goal}"));
            }
        }
    }
}

/// Begins a part.
pub(crate) fn title(title: &str) {
    say(&format!("\n{title}"));
}

/// Something that is no number.
pub(crate) fn note(note: &str) {
    say(&format!("  {note}"));
}

/// Where the requests of a measurement went, of each of so many clusters. Those of the stand-in and of the watchers are in it.
pub(crate) fn kinds(usage: &Usage, of: f64) {
    let mut kinds: Vec<(&String, f64)> = usage
        .kinds
        .iter()
        .map(|(kind, count)| (kind, count / of))
        .collect();
    kinds.sort_by(|a, b| b.1.total_cmp(&a.1));
    let kinds = kinds
        .iter()
        .filter(|(_, count)| *count >= 0.05)
        .map(|(kind, count)| format!("{count:.1} {kind}"));
    note(&format!(
        "requests of all: {}",
        kinds.collect::<Vec<_>>().join(", ")
    ));
}

/// One line on standard output, whoever reads it or not.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
