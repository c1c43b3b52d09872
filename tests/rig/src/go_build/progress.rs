//! The progress of building the control plane: on a terminal one line that redraws itself, elsewhere a line from time to time.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

/// How many lines `go build -v` writes from an empty cache, one for each package.
const PACKAGES: u32 = 2_726;
/// How many packages must be built before the remaining time can be estimated.
const PACKAGES_BEFORE_ESTIMATE: u32 = 50;
const EVERY_ON_TERMINAL: Duration = Duration::from_secs(1);
const EVERY_ELSEWHERE: Duration = Duration::from_secs(10);
/// Moves to the beginning of the line and clears it.
const REDRAW: &str = "\r\x1b[2K";

/// Writes a line. Test runners capture `eprintln`, so it is not used.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "rig: {text}");
}

/// The progress of a build.
pub(super) struct Progress {
    on_terminal: bool,
    started: Instant,
    first_package: Option<Instant>,
    said: Instant,
    modules: u32,
    packages: u32,
}

impl Progress {
    pub(super) fn new(started: Instant) -> Self {
        Self {
            on_terminal: io::stderr().is_terminal(),
            started,
            first_package: None,
            said: started,
            modules: 0,
            packages: 0,
        }
    }

    /// Counts a fetched module.
    pub(super) fn module(&mut self) {
        self.modules += 1;
    }

    /// Counts a compiled package.
    pub(super) fn package(&mut self) {
        self.first_package.get_or_insert_with(Instant::now);
        self.packages += 1;
    }

    /// How long until the next line is due.
    pub(super) fn next_in(&self) -> Duration {
        let every = if self.on_terminal {
            EVERY_ON_TERMINAL
        } else {
            EVERY_ELSEWHERE
        };
        every.saturating_sub(self.said.elapsed())
    }

    /// Shows the progress.
    pub(super) fn show(&mut self) {
        self.said = Instant::now();
        let compiling = self.first_package.map(|first| first.elapsed());
        let text = text(
            self.started.elapsed(),
            self.modules,
            self.packages,
            compiling.unwrap_or_default(),
        );
        if self.on_terminal {
            let mut stderr = io::stderr();
            let _ = write!(stderr, "{REDRAW}rig: {text}");
            let _ = stderr.flush();
        } else {
            say(&text);
        }
    }

    /// Clears the line for the next output.
    pub(super) fn clear(&self) {
        if self.on_terminal {
            let _ = write!(io::stderr(), "{REDRAW}");
        }
    }
}

/// The percentage counts packages, and the estimate uses their pace so far. Both are limits: Go does not report packages from its cache.
fn text(elapsed: Duration, modules: u32, packages: u32, compiling: Duration) -> String {
    let seconds = elapsed.as_secs();
    if packages == 0 {
        return format!("{seconds} s, {modules} modules fetched");
    }
    let share = (packages * 100 / PACKAGES).min(99);
    let built = format!("{seconds} s, {share} % of the packages built");
    if packages < PACKAGES_BEFORE_ESTIMATE {
        return built;
    }
    let rest = compiling * PACKAGES.saturating_sub(packages) / packages;
    let minutes = rest.as_secs().div_ceil(60).max(1);
    format!("{built}, at most {minutes} min left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_first_then_a_share_then_an_estimate() {
        let seconds = Duration::from_secs;
        let none = Duration::ZERO;
        assert_eq!(text(seconds(5), 12, 0, none), "5 s, 12 modules fetched");
        assert_eq!(
            text(seconds(20), 300, 49, seconds(3)),
            "20 s, 1 % of the packages built"
        );
        assert_eq!(
            text(seconds(140), 300, PACKAGES / 2, seconds(121)),
            "140 s, 50 % of the packages built, at most 3 min left"
        );
        // The linker runs after all packages are built, and a later version of Go may build more of them.
        assert_eq!(
            text(seconds(400), 300, PACKAGES + 20, seconds(380)),
            "400 s, 99 % of the packages built, at most 1 min left"
        );
    }
}
