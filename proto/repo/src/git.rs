//! The one place that runs `git`.
//!
//! Every call gets a scrubbed environment, fixed options that switch off everything that a
//! repository's configuration could start (hooks, file system monitor, remote helpers), bounded
//! output and a time limit. What a repository contains is data here, never a program.

use std::{
    borrow::Cow,
    ffi::{OsStr, OsString},
    fs,
    io::{self, Read, Write},
    os::unix::{ffi::OsStrExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use rustix::{
    fs::{Access, access},
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid},
};

use crate::error::{Error, GIT_MIN, Result};

/// Longest time for one call: a bundle of a very large repository takes minutes, not hours.
const TIME_MAX: Duration = Duration::from_secs(15 * 60);
/// Most output that is held in memory: 200,000 paths of 4 KiB would be 800 MB, real ones 20 MB.
const OUTPUT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How much of standard error is kept: its end.
const STDERR_BYTES_MAX: usize = 4096;

/// Options of every call. Later `-c` options win over every configuration file.
const OPTIONS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.splitIndex=false",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "core.sshCommand=false",
    "core.askPass=false",
    "core.pager=cat",
    "core.bigFileThreshold=32m",
    "credential.helper=",
    "commit.gpgSign=false",
    "submodule.recurse=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "pack.windowMemory=256m",
    "protocol.allow=never",
    "protocol.file.allow=always",
    "protocol.ext.allow=never",
    "transfer.fsckObjects=true",
    "fetch.fsckObjects=true",
];

/// Options of calls that must not see the user's configuration either.
const PRIVATE_OPTIONS: &[&str] = &[
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
];

/// Memory in steps of 16 MiB. Else what git takes and gives back for each object goes to the kernel and
/// comes from there again: a third of the time for staging a hundred small files. C libraries other
/// than glibc do not look at it.
const TUNABLES: &str = "glibc.malloc.top_pad=16777216";

/// Whose configuration counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// Nobody's: the repository is ours, its content is not.
    Nobody,
    /// The user's own, in the user's own checkout: ignore rules, line ends and clean filters
    /// (which may encrypt) must hold there as they do for the user's own `git add`.
    User,
}

/// What a call reads on standard input.
pub(crate) enum Input<'a> {
    /// Nothing.
    Nothing,
    /// These bytes.
    Bytes(&'a [u8]),
    /// This file.
    File(std::fs::File),
}

/// How a call ended that was allowed to fail.
pub(crate) struct Ended<T> {
    pub value: T,
    pub code: i32,
    pub stderr: String,
}

/// A repository and the way to call git on it.
#[derive(Clone, Debug)]
pub(crate) struct Git {
    trust: Trust,
    dir: OsString,
    env: Vec<(Cow<'static, str>, OsString)>,
    options: Vec<OsString>,
    limit: Duration,
}

impl Git {
    /// git on a repository of our own, at `git_dir`.
    pub fn private(git_dir: &Path) -> Self {
        Self {
            trust: Trust::Nobody,
            dir: "/".into(),
            env: vec![("GIT_DIR".into(), git_dir.into())],
            options: Vec::new(),
            limit: TIME_MAX,
        }
    }

    /// git in the user's own checkout, found from `dir` upwards.
    pub fn user(dir: &Path) -> Self {
        Self {
            trust: Trust::User,
            dir: dir.into(),
            env: Vec::new(),
            options: Vec::new(),
            limit: TIME_MAX,
        }
    }

    /// The same with one more environment variable.
    pub fn env(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<OsString>) -> Self {
        let name = name.into();
        self.env.retain(|(known, _)| *known != name);
        self.env.push((name, value.into()));
        self
    }

    /// The same with this work tree.
    pub fn work_tree(mut self, dir: &Path) -> Self {
        self.dir = dir.into();
        self.env("GIT_WORK_TREE", dir)
    }

    /// The same with one more `-c` option.
    pub fn option(mut self, option: impl Into<OsString>) -> Self {
        self.options.push(option.into());
        self
    }

    /// The same with another time limit.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The same with this identity and time on commits.
    pub fn identity(self, name: &str, email: &str, unix_secs: i64) -> Self {
        let date = format!("@{unix_secs} +0000");
        self.env("GIT_AUTHOR_NAME", name)
            .env("GIT_AUTHOR_EMAIL", email)
            .env("GIT_AUTHOR_DATE", &date)
            .env("GIT_COMMITTER_NAME", name)
            .env("GIT_COMMITTER_EMAIL", email)
            .env("GIT_COMMITTER_DATE", date)
    }

    /// Runs `git args` and returns its output, held in memory.
    pub fn output<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Vec<u8>> {
        self.output_of(args, Input::Nothing)
    }

    /// Runs `git args` on `input` and returns its output, held in memory.
    pub fn output_of<S: AsRef<OsStr>>(&self, args: &[S], input: Input<'_>) -> Result<Vec<u8>> {
        self.succeed(args, self.run(args, input, read_bounded)?)
            .and_then(|bytes| bytes.ok_or_else(|| self.too_long(args)))
    }

    /// Runs `git args`, which prints one line of text.
    pub fn line<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<String> {
        self.line_of(args, Input::Nothing)
    }

    /// Runs `git args` on `input`, which prints one line of text.
    pub fn line_of<S: AsRef<OsStr>>(&self, args: &[S], input: Input<'_>) -> Result<String> {
        let bytes = self.output_of(args, input)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::Output {
            command: shown(args),
            what: "text that is not UTF-8".to_owned(),
        })?;
        Ok(text.strip_suffix('\n').map(str::to_owned).unwrap_or(text))
    }

    /// Runs `git args` and says how it ended; no exit code is an error.
    pub fn ended<S: AsRef<OsStr>>(&self, args: &[S], input: Input<'_>) -> Result<Ended<Vec<u8>>> {
        let ended = self.run(args, input, read_bounded)?;
        let value = ended.value.ok_or_else(|| self.too_long(args))?;
        Ok(Ended {
            value,
            code: ended.code,
            stderr: ended.stderr,
        })
    }

    /// Runs `git args` on `input` and hands its output to `consume` while it comes.
    pub fn stream<S: AsRef<OsStr>, T>(
        &self,
        args: &[S],
        input: Input<'_>,
        consume: impl FnOnce(&mut dyn Read) -> io::Result<T>,
    ) -> Result<T> {
        self.succeed(args, self.run(args, input, consume)?)
    }

    fn succeed<S: AsRef<OsStr>, T>(&self, args: &[S], ended: Ended<T>) -> Result<T> {
        if ended.code == 0 {
            return Ok(ended.value);
        }
        Err(Error::Git {
            command: shown(args),
            status: status_text(ended.code),
            stderr: ended.stderr,
        })
    }

    fn too_long<S: AsRef<OsStr>>(&self, args: &[S]) -> Error {
        Error::Long {
            command: shown(args),
            limit: OUTPUT_BYTES_MAX,
        }
    }

    fn run<S: AsRef<OsStr>, T>(
        &self,
        args: &[S],
        input: Input<'_>,
        consume: impl FnOnce(&mut dyn Read) -> io::Result<T>,
    ) -> Result<Ended<T>> {
        check_version()?;
        let mut command = self.command();
        command.args(args);
        let (bytes, stdin) = match input {
            Input::Nothing => (None, Stdio::null()),
            Input::Bytes(bytes) => (Some(bytes), Stdio::piped()),
            Input::File(file) => (None, Stdio::from(file)),
        };
        let mut child = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| self.not_spawned(source))?;
        let talk = converse(&mut child, bytes, self.limit, consume);
        let status = child.wait().map_err(|source| Error::NoGit { source })?;
        if talk.timed_out {
            return Err(Error::Slow {
                command: shown(args),
                limit: self.limit,
            });
        }
        let code = status.code().unwrap_or(-1);
        match talk.value {
            Ok(value) => Ok(Ended {
                value,
                code,
                stderr: talk.stderr,
            }),
            // Its own error explains a broken output best.
            Err(_) if code != 0 => Err(Error::Git {
                command: shown(args),
                status: status_text(code),
                stderr: talk.stderr,
            }),
            Err(error) => Err(Error::Output {
                command: shown(args),
                what: error.to_string(),
            }),
        }
    }

    /// A directory that is gone, or that nobody lets in, gives the same error as a program that is not there.
    fn not_spawned(&self, source: io::Error) -> Error {
        let dir = Path::new(&self.dir);
        // Whatever may be asked of it from outside, only who may enter it finds itself in there.
        match fs::metadata(dir.join(".")) {
            Ok(_) => Error::NoGit { source },
            Err(source) => Error::Io {
                what: "work in",
                path: dir.to_owned(),
                source,
            },
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(program());
        command.env_clear().current_dir(&self.dir).process_group(0);
        keep_env(&mut command, &["PATH", "TMPDIR"]);
        command
            .env("LC_ALL", "C")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_LITERAL_PATHSPECS", "1")
            .env("GIT_ALLOW_PROTOCOL", "file")
            .env("GIT_ADVICE", "0")
            .env("GLIBC_TUNABLES", TUNABLES);
        for option in OPTIONS {
            command.arg("-c").arg(option);
        }
        match self.trust {
            Trust::User => keep_env(
                &mut command,
                &["HOME", "XDG_CONFIG_HOME", "USER", "LOGNAME"],
            ),
            Trust::Nobody => {
                command
                    .env("HOME", "/dev/null")
                    .env("GIT_CONFIG_NOSYSTEM", "1")
                    .env("GIT_CONFIG_GLOBAL", "/dev/null")
                    .env("GIT_ATTR_NOSYSTEM", "1");
                for option in PRIVATE_OPTIONS {
                    command.arg("-c").arg(option);
                }
            }
        }
        for option in &self.options {
            command.arg("-c").arg(option);
        }
        for (name, value) in &self.env {
            command.env(&**name, value);
        }
        command
    }
}

/// What came of talking to a child; it has ended but is not reaped.
struct Talk<T> {
    value: io::Result<T>,
    stderr: String,
    timed_out: bool,
}

/// Feeds the child, takes its output and waits for its end; kills its group after `limit`.
fn converse<T>(
    child: &mut Child,
    input: Option<&[u8]>,
    limit: Duration,
    consume: impl FnOnce(&mut dyn Read) -> io::Result<T>,
) -> Talk<T> {
    let pid = Pid::from_child(child);
    let stdin = child.stdin.take();
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    thread::scope(|scope| {
        let (done, over) = mpsc::channel::<()>();
        let watchdog = scope.spawn(move || {
            let late = over.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout);
            if late {
                kill_group(pid);
            }
            late
        });
        if let (Some(mut stdin), Some(bytes)) = (stdin, input) {
            // A child that stops reading has its reasons; its exit code tells them.
            scope.spawn(move || stdin.write_all(bytes));
        }
        let errors = scope.spawn(move || stderr.map(stderr_tail).unwrap_or_default());
        let value = match stdout {
            Some(mut out) => consume(&mut out),
            None => Err(io::Error::other("no standard output")),
        };
        if value.is_err() {
            kill_group(pid);
        }
        let stderr = errors.join().unwrap_or_default();
        // NOWAIT leaves the pid ours, so that the watchdog cannot hit a stranger.
        let _ended = waitid(
            WaitId::Pid(pid),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        );
        drop(done);
        Talk {
            value,
            stderr,
            timed_out: watchdog.join().unwrap_or(false),
        }
    })
}

/// Where git is. A program that is named by its path is started without a copy of this process, which
/// takes about as long as a small call of git itself: the standard library makes one when the
/// environment is another and the name has to be looked up in it.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Whatever the system makes of it.
    find_git(&path).unwrap_or_else(|| "git".into())
}

/// Where git is on a search path.
#[must_use]
pub fn find_git(path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join("git"))
        .find(|file| is_program(file))
}

/// Whether there is a git on a search path that is new enough; its version. Asks it each time.
///
/// # Errors
/// When there is none, or it is too old.
pub fn look_for_git(path: &OsStr) -> Result<String> {
    let not_there = || io::Error::from(io::ErrorKind::NotFound);
    let program = find_git(path).ok_or_else(|| Error::NoGit {
        source: not_there(),
    })?;
    let (major, minor) = new_enough(read_version(&program)?)?;
    Ok(format!("{major}.{minor}"))
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.is_file()) && access(file, Access::EXEC_OK).is_ok()
}

fn kill_group(pid: Pid) {
    // It may have ended by itself.
    let _gone = kill_process_group(pid, Signal::KILL);
}

fn keep_env(command: &mut Command, names: &[&str]) {
    for name in names {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
}

/// Reads everything, or `None` when it is more than anybody wants to hold.
fn read_bounded(from: &mut dyn Read) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    from.take(OUTPUT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    let fits = bytes.len() as u64 <= OUTPUT_BYTES_MAX;
    if !fits {
        io::copy(from, &mut io::sink())?;
    }
    Ok(fits.then_some(bytes))
}

fn stderr_tail(mut from: ChildStderr) -> String {
    let mut tail = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        tail.extend_from_slice(&chunk[..count]);
        let surplus = tail.len().saturating_sub(STDERR_BYTES_MAX);
        tail.drain(..surplus);
    }
    String::from_utf8_lossy(&tail).trim().to_owned()
}

fn status_text(code: i32) -> String {
    match code {
        -1 => "ended by a signal".to_owned(),
        code => format!("exit code {code}"),
    }
}

/// A command for people: at most the first few arguments.
fn shown<S: AsRef<OsStr>>(args: &[S]) -> String {
    const SHOWN: usize = 6;
    let mut words: Vec<_> = args
        .iter()
        .take(SHOWN)
        .map(|a| a.as_ref().to_string_lossy().into_owned())
        .collect();
    if args.len() > SHOWN {
        words.push("…".to_owned());
    }
    words.join(" ")
}

/// Looks whether there is a git that is new enough, until there is.
fn check_version() -> Result<()> {
    static FOUND: OnceLock<()> = OnceLock::new();
    if FOUND.get().is_none() {
        new_enough(read_version(&program())?)?;
        FOUND.get_or_init(|| ());
    }
    Ok(())
}

fn new_enough(found: (u32, u32)) -> Result<(u32, u32)> {
    match found >= GIT_MIN {
        true => Ok(found),
        false => Err(Error::OldGit {
            found: format!("{}.{}", found.0, found.1),
        }),
    }
}

fn read_version(program: &Path) -> Result<(u32, u32)> {
    let output = Command::new(program)
        .arg("version")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::NoGit { source })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    parse_version(&text).ok_or_else(|| Error::Output {
        command: "version".to_owned(),
        what: format!("{text:?}"),
    })
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("git version ")?.split(['.', ' ', '\n']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// A path in a list that git splits at colons or newlines. Quotes are only where it cannot be without:
/// other programs that read such a list do not know of them.
pub(crate) fn quoted(path: &Path) -> OsString {
    let bytes = path.as_os_str().as_bytes();
    let is_plain = !bytes.starts_with(b"\"") && !bytes.starts_with(b"#");
    if is_plain && !bytes.iter().any(|b| b":\n".contains(b)) {
        return path.as_os_str().to_owned();
    }
    let mut text = vec![b'"'];
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => text.extend([b'\\', byte]),
            b'\n' => text.extend(b"\\n"),
            _ => text.push(byte),
        }
    }
    text.push(b'"');
    OsStr::from_bytes(&text).to_owned()
}

/// The records of a `-z` output.
pub(crate) fn records(output: &[u8]) -> impl Iterator<Item = &[u8]> {
    output
        .split(|b| *b == 0)
        .filter(|record| !record.is_empty())
}

/// Whether `text` is a full object id, so that it can never be an option or an expression.
pub(crate) fn check_commit(text: &str) -> Result<()> {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if matches!(text.len(), 40 | 64) && text.bytes().all(hex) {
        return Ok(());
    }
    Err(Error::BadCommit {
        text: text.chars().take(80).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_distributions_are_understood() {
        for (text, version) in [
            ("git version 2.47.3\n", (2, 47)),
            ("git version 2.39.5 (Apple Git-154)\n", (2, 39)),
            ("git version 3.0\n", (3, 0)),
        ] {
            assert_eq!(parse_version(text), Some(version), "{text}");
        }
    }

    #[test]
    fn git_is_named_by_a_path() {
        let program = program();
        assert!(program.is_absolute() && program.ends_with("git"));
        assert!(is_program(&program));
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_program(dir.path()), "a directory");
        let text = dir.path().join("git");
        fs::write(&text, "").unwrap();
        assert!(!is_program(&text), "a file that nobody may run");
    }

    #[test]
    fn a_directory_that_cannot_be_entered_is_no_lack_of_git() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for place in [file, dir.path().join("gone")] {
            let error = Git::user(&place).output(&["version"]).unwrap_err();
            let said = format!("failed to work in `{}`", place.display());
            assert_eq!(error.to_string(), said);
        }
    }

    #[test]
    fn a_call_that_does_not_end_is_stopped_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut git = Git::private(dir.path());
        git.limit = Duration::from_millis(200);
        let (reader, _writer) = io::pipe().unwrap();
        let stdin = std::fs::File::from(std::os::fd::OwnedFd::from(reader));
        let error = git
            .output_of(&["hash-object", "--stdin"], Input::File(stdin))
            .unwrap_err();
        assert!(matches!(error, Error::Slow { .. }), "{error}");
    }

    #[test]
    fn an_option_cannot_pass_as_a_commit() {
        for text in ["--all", "HEAD", "", &"a".repeat(39), &"A".repeat(40)] {
            assert!(check_commit(text).is_err(), "{text}");
        }
        assert!(check_commit(&"0f".repeat(20)).is_ok());
    }
}
