//! The commands that read a file, and which part of their output is used.
//!
//! The login shell is unknown, and its start-up files may print; so may PAM before and after what `sudo` runs. So each command runs in `sh`
//! with the path as its argument, prints a mark on both streams before its own output, and another one after a file. The locale is C, so
//! that errors are in English.

use crate::remote::secret::SecretBytes;

/// Marks the beginning of a command's output. A random mark would not protect anything: the machine can print whatever it wants.
const MARK: &str = "nico-output-begins-here";
/// Marks the end of a file.
const END: &str = "nico-output-ends-here";
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

/// The command that prints a file. `sudo` runs a shell, which prints the mark after PAM. Where `sudo` allows `cat` alone, it runs that.
pub(super) fn read(path: &str, user: As) -> String {
    let end = format!("{{ echo; echo {END}; }}");
    let begin = format!("echo {MARK}; echo {MARK} >&2");
    let script = match user {
        As::User => format!("cat -- \"$0\" && {end}"),
        As::Root => format!(
            "sudo -n sh -c \"{begin}; cat -- \\\"\\$0\\\" && {end}\" \"$0\" || {{ {begin}; sudo -n cat -- \"$0\" && {end}; }}"
        ),
    };
    shell(&script, path)
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

/// What a command prints on stdout.
#[derive(Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    begun: bool,
    ended: bool,
    /// How many bytes were searched for marks.
    #[cfg(test)]
    searched: usize,
}

impl Output {
    /// Takes the next bytes, and keeps those between the marks. Earlier bytes are not searched again, but where a mark may have begun: a
    /// machine may send a file byte by byte.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.ended || bytes.is_empty() {
            return;
        }
        let before = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        let mut new = before.saturating_sub(MARK.len());
        if let Some(begin) = last_begin(self.from(new)) {
            self.begun = true;
            self.bytes.drain(..new + begin);
            new = 0;
        } else {
            new = before.saturating_sub(END.len() + 1);
        }
        let end = format!("\n{END}\n");
        let end = self
            .from(new)
            .windows(end.len())
            .position(|window| *window == *end.as_bytes());
        if let Some(end) = end.filter(|_| self.begun) {
            self.ended = true;
            self.bytes.truncate(new + end);
        }
    }

    /// The bytes from there on, to be searched.
    fn from(&mut self, start: usize) -> &[u8] {
        let bytes = &self.bytes[start..];
        #[cfg(test)]
        {
            self.searched += bytes.len();
        }
        bytes
    }

    /// Whether more than `most` bytes are to be kept, while the mark of the end may still be among them.
    pub(super) fn exceeds(&self, most: usize) -> bool {
        self.bytes.len() > most + END.len() + 2
    }

    /// The bytes between the marks, or to the end where there is no mark of it, and whether the command has begun.
    pub(super) fn content(self) -> (SecretBytes, bool) {
        (SecretBytes::new(self.bytes), self.begun)
    }
}

/// Position after the last mark in the bytes of one stream; `None` if no mark has been received. A shell that prints its commands (`set -x`)
/// prints the mark too, and a command within another one has a mark of its own.
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
    use std::process::Command;

    use super::*;

    /// Runs a command as an SSH server does: in the user's shell.
    fn run(command: &str) -> std::process::Output {
        let noisy = format!("echo Welcome >&2; printf 'Last login: '; {command}");
        Command::new("sh").arg("-c").arg(noisy).output().unwrap()
    }

    fn content(output: &std::process::Output) -> SecretBytes {
        let mut kept = Output::default();
        // As it may come: in pieces.
        for piece in output.stdout.chunks(7) {
            kept.push(piece);
        }
        let (content, begun) = kept.content();
        assert!(begun);
        content
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
        assert_eq!(content(&output).expose(), b"content\n");
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

    /// A machine may send a file of 64 KiB in as many messages.
    #[test]
    fn a_short_message_costs_a_short_search() {
        let file = "- nico-output\n".repeat(5000);
        let sent = format!("Welcome\n{MARK}\nsudo: {MARK}\n{file}\n{END}\nbye\n");
        for length in [1, 2, 21, 24, 25, 26, 4096, sent.len()] {
            let mut kept = Output::default();
            for piece in sent.as_bytes().chunks(length) {
                kept.push(&[]);
                kept.push(piece);
            }
            let most = 2 * (sent.len() + MARK.len() * sent.len().div_ceil(length));
            assert!(kept.searched <= most, "{} by {length}", kept.searched);
            let (content, begun) = kept.content();
            assert!(begun && content.expose() == file.as_bytes(), "{length}");
        }
    }

    #[test]
    fn only_the_mark_on_a_line_of_its_own_counts() {
        assert_eq!(last_begin(b"nico-output-begins-here; cat"), None);
        let echoed = b"+ echo nico-output-begins-here\nnico-output-begins-here\nno";
        assert_eq!(&echoed[last_begin(echoed).unwrap()..], b"no");
    }

    /// PAM may print into a session of `sudo`, before and after what that runs. Some allow `cat` alone.
    #[test]
    fn what_sudo_prints_around_a_file_is_no_part_of_it() {
        let folder = std::env::temp_dir().join(format!("nico-sudo-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("it's $HOME.yaml");
        let path = file.to_str().unwrap();
        let around = "echo Last login: today; echo Welcome >&2; \"$@\"; status=$?; echo; echo bye; exit $status";
        let runs = |sudo: &str| {
            let program = folder.join("sudo");
            fs::write(&program, format!("#!/bin/sh\nshift\n{sudo}\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
            let paths = format!("export PATH={}:$PATH", folder.display());
            run(&format!("{paths}; {}", read(path, As::Root)))
        };
        for text in ["a: 1\nb: 2\n", "a: 1", "\n", ""] {
            fs::write(&file, text).unwrap();
            let output = runs(around);
            assert_eq!(output.status.code(), Some(0));
            assert_eq!(content(&output).expose(), text.as_bytes(), "{output:?}");
            let output = runs("[ \"$1\" = cat ] || exit 1; \"$@\"");
            assert_eq!(output.status.code(), Some(0));
            assert_eq!(content(&output).expose(), text.as_bytes(), "{output:?}");
        }
        assert_ne!(runs("exit 1").status.code(), Some(0));
        fs::remove_file(&file).unwrap();
        assert_ne!(runs(around).status.code(), Some(0));
        fs::remove_dir_all(&folder).unwrap();
    }
}
