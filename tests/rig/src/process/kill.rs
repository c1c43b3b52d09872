//! A kill of the program in the middle of what it does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::process::Child;
use tokio::sync::watch;

use super::Nico;

/// Kills a program that may not have been started yet. It is created first, then armed with the program, then pressed by a fault. Clones
/// share it.
#[derive(Clone)]
pub struct KillSwitch {
    target: Arc<watch::Sender<Option<Arc<Mutex<Child>>>>>,
    pressed: Arc<AtomicBool>,
}

impl Default for KillSwitch {
    fn default() -> Self {
        Self {
            target: Arc::new(watch::Sender::new(None)),
            pressed: Arc::default(),
        }
    }
}

impl KillSwitch {
    /// Sets the process to kill.
    pub fn arm(&self, nico: &Nico) {
        self.target.send_replace(Some(Arc::clone(&nico.child)));
    }

    /// Whether it was pressed.
    #[must_use]
    pub fn pressed(&self) -> bool {
        self.pressed.load(Ordering::SeqCst)
    }

    /// Kills the process as soon as it is armed; returns once the signal was sent.
    pub async fn press(&self) {
        self.pressed.store(true, Ordering::SeqCst);
        let mut armed = self.target.subscribe();
        if let Ok(target) = armed.wait_for(Option::is_some).await
            && let Some(child) = target.as_ref()
        {
            let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = child.start_kill();
        }
    }
}
