//! The commands that read a file, and which part of their output is used.
//!
//! The login shell is unknown, and its start-up files may print. So each command runs in `sh` with the path as its argument, and prints a
//! mark on both streams before its own output. The locale is C, so that errors are in English.

/// Marks the beginning of a command's output. A random mark would not protect anything: the machine can print whatever it wants.
const MARK: &str = "nico-output-begins-here";
/// Exit status of [`exists`]: the file does not exist.
pub(super) const MISSING: u32 = 44;
/// Exit status of [`exists`]: the file exists, or its directory cannot be searched.
const DENIED: u32 = 45;

/// The user who reads a file.
#[derive(Clone, Copy)]
pub(super) enum As {
    /// The user who logged in.
    User,
    /// root, with `sudo` that does not ask for a password.
    Root,
}

/// The command that prints a file.
pub(super) fn read(path: &str, user: As) -> String {
    let sudo = match user {
        As::User => "",
        As::Root => "sudo -n ",
    };
    shell(&format!("exec {sudo}cat -- \"$0\""), path)
}

/// The command whose exit status says whether a file is missing. If the user may not search the directory, and `sudo` may not either, the
/// file does not count as missing.
pub(super) fn exists(path: &str) -> String {
    let script = format!(
        "sudo -n test ! -e \"$0\" 2>/dev/null && exit {MISSING}; test -e \"$0\" && exit {DENIED}; d=$0; \
         while d=${{d%/*}}; test -n \"$d\" && test ! -e \"$d\"; do :; done; \
         test -x \"${{d:-/}}\" && exit {MISSING}; exit {DENIED}"
    );
    shell(&script, path)
}

fn shell(script: &str, path: &str) -> String {
    let quoted = path.replace('\'', "'\\''");
    format!("sh -c 'LC_ALL=C; export LC_ALL; echo {MARK}; echo {MARK} >&2; {script}' '{quoted}'")
}

/// Position after the mark in the bytes of one stream; `None` if the mark has not been received.
pub(super) fn begin(bytes: &[u8]) -> Option<usize> {
    let mark = format!("{MARK}\n");
    let at = bytes
        .windows(mark.len())
        .position(|window| *window == *mark.as_bytes());
    at.map(|at| at + mark.len())
}

/// The same for stderr. A shell that prints its commands (`set -x`) prints the mark too, so the last mark is used.
pub(super) fn last_begin(bytes: &[u8]) -> Option<usize> {
    let mark = format!("{MARK}\n");
    let at = bytes
        .windows(mark.len())
        .rposition(|window| *window == *mark.as_bytes());
    at.map(|at| at + mark.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::{Command, Output};

    use super::*;

    /// Runs a command as an SSH server does: in the user's shell.
    fn run(command: &str) -> Output {
        let noisy = format!("echo Welcome >&2; printf 'Last login: '; {command}");
        Command::new("sh").arg("-c").arg(noisy).output().unwrap()
    }

    fn content(output: &Output) -> &[u8] {
        &output.stdout[begin(&output.stdout).unwrap()..]
    }

    #[test]
    fn a_real_shell_prints_the_file_after_the_mark() {
        let folder = std::env::temp_dir().join(format!("nico-command-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("it's; $HOME.yaml");
        fs::write(&path, "content\n").unwrap();
        let path = path.to_str().unwrap();
        let output = run(&read(path, As::User));
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(content(&output), b"content\n");
        assert!(last_begin(&output.stderr).is_some());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_real_shell_knows_what_is_missing_in_any_locale() {
        let folder = std::env::temp_dir().join(format!("nico-exists-{}", std::process::id()));
        fs::create_dir_all(folder.join("closed")).unwrap();
        fs::write(folder.join("closed/file"), "").unwrap();
        fs::write(folder.join("file"), "").unwrap();
        let status = |path: &str| {
            let path = folder.join(path);
            let output = run(&exists(path.to_str().unwrap()));
            output.status.code().unwrap().unsigned_abs()
        };
        assert_eq!(status("file"), DENIED);
        assert_eq!(status("none"), MISSING);
        assert_eq!(status("none/of/these"), MISSING);
        let closed = folder.join("closed");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        // root may read every directory.
        let may_look = fs::read_dir(&closed).is_ok();
        if !may_look {
            assert_eq!(status("closed/file"), DENIED);
            assert_eq!(status("closed/none"), DENIED);
        }
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn only_the_mark_on_a_line_of_its_own_counts() {
        assert_eq!(begin(b"nico-output-begins-here; cat"), None);
        let echoed = b"+ echo nico-output-begins-here\nnico-output-begins-here\nno";
        assert_eq!(&echoed[last_begin(echoed).unwrap()..], b"no");
        assert_eq!(
            begin(b"xnico-output-begins-here\na\nnico-output-begins-here\n"),
            Some(25)
        );
    }
}
