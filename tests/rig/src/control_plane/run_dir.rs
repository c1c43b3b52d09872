//! The directory of one running control plane: `rig/run-<pid>-<n>` in cargo's target directory. Whoever runs it holds
//! a lock in it; a directory whose lock is free belongs to nobody any more and is removed at the next start.

use std::{
    fs::{self, File},
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use super::Error;
use crate::go_build::rig_directory;

/// Set, to any value, by a person who wants to look at what a control plane wrote, after it ended.
pub(super) const KEEP: &str = "RIG_KEEP";
const LOCK: &str = "lock";

/// A directory that is removed when this is dropped, and never while it is not.
pub(super) struct RunDir {
    path: PathBuf,
    _lock: File,
}

impl RunDir {
    pub(super) fn create() -> Result<Self, Error> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let parent = rig_directory()?;
        let path = parent.join(format!(
            "run-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        ));
        let failed = |source| Error::File {
            path: path.clone(),
            source,
        };

        // One process at a time removes and creates, so that nobody takes a directory for a dead one before its lock
        // is held.
        let runs = File::create(parent.join("runs.lock")).map_err(failed)?;
        runs.lock().map_err(failed)?;
        remove_dead(&parent);
        fs::create_dir_all(&path).map_err(failed)?;
        let lock = File::create(path.join(LOCK)).map_err(failed)?;
        lock.lock().map_err(failed)?;
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn write(&self, name: &str, content: &str) -> Result<PathBuf, Error> {
        let path = self.path.join(name);
        fs::write(&path, content).map_err(|source| Error::File {
            path: path.clone(),
            source,
        })?;
        Ok(path)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if std::env::var_os(KEEP).is_none() {
            remove(&self.path);
        }
    }
}

fn remove_dead(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if !path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("run-"))
        {
            continue;
        }
        let dead = match File::open(path.join(LOCK)) {
            Ok(lock) => lock.try_lock().is_ok(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if dead {
            remove(&path);
        }
    }
}

/// A process that is just ending may still create a file in it: that is why it is tried again.
fn remove(path: &Path) {
    for _ in 0..5 {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            _ => return,
        }
    }
}

/// A port on which nobody listens at this address. It lies below those that systems give to outgoing connections
/// (from 32768 on Linux, 49152 elsewhere): a port from there may be taken by any client while a stopped API server is
/// to come back on it.
pub(crate) fn free_port(address: IpAddr) -> Result<u16, Error> {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..100 {
        let random = RandomState::new().build_hasher().finish();
        let port = u16::try_from(12_000 + random % 20_000).unwrap_or(12_000);
        match TcpListener::bind(SocketAddr::new(address, port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(Error::Port(last))
}
