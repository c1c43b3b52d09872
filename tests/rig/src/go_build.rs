//! Builds the control plane's binary (`controlplane/`, Go) if it does not exist yet: once for each state of its sources, by one process at
//! a time, into cargo's target directory.

mod progress;

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use progress::{Progress, say};
use sha2::{Digest as _, Sha256};

/// The version that `kubectl version` and `/version` report. It must match go.mod.
const KUBERNETES_VERSION: &str = "v1.37.2";
/// Binaries of other states of the sources are removed when they are older than this: each has more than a hundred megabytes.
const OTHERS_KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);
const SOURCES: [&str; 3] = ["go.mod", "go.sum", "main.go"];

/// Errors of the build.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No `go` on the path.
    #[error(
        "Go 1.26 or newer is needed once to build the test control plane: https://go.dev/dl; or set KUBEBUILDER_ASSETS to a directory with etcd, \
         kube-apiserver and kubectl"
    )]
    NoGo,
    /// The build failed.
    #[error(
        "the test control plane could not be built with Go (1.26 or newer is needed; `go version` says {version}): {log}"
    )]
    Build {
        /// The output of `go version`.
        version: String,
        /// The last lines of the build.
        log: String,
    },
    /// A file or directory of the build.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// The binary with the subcommands etcd, kube-apiserver, kube-controller-manager and kubectl. If needed, it is built first, which blocks
/// for several minutes and shows its progress on standard error.
pub fn controlplane_binary() -> Result<PathBuf, Error> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("controlplane");
    let directory = rig_directory()?;
    let mut digest = Sha256::new();
    for name in SOURCES {
        let path = sources.join(name);
        let content = fs::read(&path).map_err(|source| Error::File { path, source })?;
        digest.update(content.len().to_be_bytes());
        digest.update(content);
    }
    let key = u64::from_be_bytes(digest.finalize().first_chunk().copied().unwrap_or_default());
    let binary = directory.join(format!("controlplane-{key:016x}"));
    if binary.exists() {
        return Ok(binary);
    }

    let lock_path = directory.join("build.lock");
    let at_lock = |source| Error::File {
        path: lock_path.clone(),
        source,
    };
    let lock = File::create(&lock_path).map_err(at_lock)?;
    if lock.try_lock().is_err() {
        say("another process builds the test control plane, waiting for it");
        lock.lock().map_err(at_lock)?;
    }
    if !binary.exists() {
        build(&sources, &binary)?;
        remove_others(&directory, &binary);
    }
    Ok(binary)
}

/// `rig/` in cargo's target directory: built binaries, and the files of running control planes.
pub fn rig_directory() -> Result<PathBuf, Error> {
    let directory = target_directory().join("rig");
    fs::create_dir_all(&directory).map_err(|source| Error::File {
        path: directory.clone(),
        source,
    })?;
    Ok(directory)
}

/// Cargo's target directory: the one that contains the running program, found by the tag file that cargo creates, else the default.
fn target_directory() -> PathBuf {
    if let Some(directory) = std::env::var_os("CARGO_TARGET_DIR")
        .map(PathBuf::from)
        .filter(|directory| directory.is_absolute())
    {
        return directory;
    }
    let program = std::env::current_exe().unwrap_or_default();
    program
        .ancestors()
        .find(|directory| directory.join("CACHEDIR.TAG").exists())
        .map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
            Path::to_path_buf,
        )
}

fn build(sources: &Path, binary: &Path) -> Result<(), Error> {
    let version = match Command::new("go").arg("version").output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(_) => return Err(Error::NoGo),
    };
    say(&format!(
        "builds the test control plane (etcd, kube-apiserver, kube-controller-manager, kubectl {KUBERNETES_VERSION}) with {version}, once; \
         from an empty cache this takes 6 to 9 minutes on two quiet cores. With KUBEBUILDER_ASSETS nothing is built: see README.md"
    ));
    let started = Instant::now();
    let partial = binary.with_extension(format!("partial-{}", std::process::id()));
    let stamp = "-X k8s.io/component-base/version";
    let minor = KUBERNETES_VERSION.split('.').nth(1).unwrap_or_default();
    let ldflags = format!(
        "-s -w {stamp}.gitVersion={KUBERNETES_VERSION} {stamp}.gitMajor=1 {stamp}.gitMinor={minor} {stamp}.gitTreeState=clean"
    );
    let at_build = |source| Error::File {
        path: sources.to_path_buf(),
        source,
    };
    let mut child = Command::new("go")
        .args([
            "build",
            "-v",
            "-mod=readonly",
            "-trimpath",
            "-buildvcs=false",
            "-tags=grpcnotrace,notest",
            "-ldflags",
            &ldflags,
            "-o",
        ])
        .arg(&partial)
        .arg(".")
        .current_dir(sources)
        // Without cgo, no C compiler is needed, and the build is faster.
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(at_build)?;
    let tail = child
        .stderr
        .take()
        .map(|stderr| follow(stderr, started))
        .unwrap_or_default();
    if !child.wait().map_err(at_build)?.success() {
        let _ = fs::remove_file(&partial);
        return Err(Error::Build {
            version,
            log: tail.join("\n"),
        });
    }
    fs::rename(&partial, binary).map_err(|source| Error::File {
        path: binary.to_path_buf(),
        source,
    })?;
    let megabytes = fs::metadata(binary).map_or(0, |metadata| metadata.len() / 1_000_000);
    say(&format!(
        "the test control plane is built: {} s, {megabytes} MB",
        started.elapsed().as_secs()
    ));
    Ok(())
}

/// Reads the build's output to its end and shows the progress. Returns the last twenty lines that are not names of packages.
fn follow(stderr: impl io::Read + Send + 'static, started: Instant) -> Vec<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let mut progress = Progress::new(started);
    let mut said = Vec::new();
    loop {
        match lines.recv_timeout(progress.next_in()) {
            Ok(line) if line.starts_with("go: downloading ") => progress.module(),
            Ok(line) if line.contains(' ') => said.push(line),
            Ok(_) => progress.package(),
            Err(RecvTimeoutError::Timeout) => progress.show(),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    progress.clear();
    said.split_off(said.len().saturating_sub(20))
}

fn remove_others(directory: &Path, binary: &Path) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let ours = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("controlplane-"));
        let old = fs::metadata(&path)
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|at| {
                SystemTime::now()
                    .duration_since(at)
                    .is_ok_and(|age| age > OTHERS_KEPT_FOR)
            });
        if ours && old && path != binary {
            let _ = fs::remove_file(path);
        }
    }
}
