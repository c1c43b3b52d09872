//! The directory of one running control plane: `rig/run-<pid>-<n>` in cargo's target directory. The process that runs it holds a lock in
//! it. A directory whose lock is free is left over, and removed at the next start.

use std::{
    fs::{self, File},
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use super::Error;
use crate::go_build::rig_directory;

/// Environment variable. If it is set to any value, the directory stays after the control plane has ended.
pub(super) const KEEP: &str = "RIG_KEEP";
const LOCK: &str = "lock";

/// A directory that is removed when this is dropped, and not before.
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

        // Only one process at a time removes and creates directories, so that none is removed before its owner holds its lock.
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

/// Retries, since a process that is just ending may still create a file in it.
fn remove(path: &Path) {
    for _ in 0..5 {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            _ => return,
        }
    }
}

/// A free port at this address. It is below the range for outgoing connections (from 32768 on Linux, 49152 elsewhere): any client could
/// take a port from that range while an API server is stopped that has to return on it.
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
