//! One program: where it is, whether it can run, which version it has.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use orchestra_types::{limits, runner::Readiness};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    time::timeout,
};

/// How long a CLI may take to tell its version. Some are slow on a busy machine.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of its answer is read.
const VERSION_BYTES_MAX: u64 = 16 * 1024;

/// The program, by path or on `path`.
pub(super) fn find(program: &str, path: &OsStr) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|p| is_executable(p));
    }
    std::env::split_paths(path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(program))
        .find(|p| is_executable(p))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Asks a CLI for its version. One that is slow to tell can still work; one that fails to cannot.
pub(super) async fn ask(program: &Path, path: &OsStr) -> (String, Readiness) {
    let not_ready = |why: String| {
        let reason = format!("`{} --version` {why}", program.display());
        (String::new(), Readiness::NotReady { reason })
    };
    let mut child = match start(program, path) {
        Ok(child) => child,
        Err(error) => return not_ready(format!("could not be started: {error}")),
    };
    let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    let answer = timeout(VERSION_TIMEOUT, answer(&mut child)).await;
    if let Some(group) = group {
        // Whoever is left: a slow CLI, or what it started. None being left is the good case.
        let _nobody_left = kill_process_group(group, Signal::KILL);
    }
    match answer {
        Err(_slow) => (String::new(), Readiness::Ready),
        Ok(Err(error)) => not_ready(format!("could not be read: {error}")),
        Ok(Ok(answer)) if answer.ok => (version_in(&answer.stdout), Readiness::Ready),
        Ok(Ok(answer)) => {
            let said = answer.stderr.lines().find(|l| !l.trim().is_empty());
            let said = limits::cut(said.unwrap_or("without a message").trim(), 200);
            not_ready(format!("failed: {said}"))
        }
    }
}

fn start(program: &Path, path: &OsStr) -> std::io::Result<Child> {
    Command::new(program)
        .arg("--version")
        .env("PATH", path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

struct Answer {
    ok: bool,
    stdout: String,
    stderr: String,
}

async fn answer(child: &mut Child) -> std::io::Result<Answer> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (status, stdout, stderr) = tokio::try_join!(child.wait(), read(stdout), read(stderr))?;
    Ok(Answer {
        ok: status.success(),
        stdout,
        stderr,
    })
}

async fn read(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(VERSION_BYTES_MAX).read_to_end(&mut bytes).await?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The first word that looks like a version: `2.1.197 (Claude Code)`, `codex-cli 0.169.0`, `v1.2`.
fn version_in(answer: &str) -> String {
    let is_version = |word: &&str| {
        let digits = word.bytes().take_while(u8::is_ascii_digit).count();
        digits > 0 && word[digits..].starts_with('.')
    };
    let words = answer.split([' ', '\t', '\n', '\r', '(', ')', ',', '/']);
    words
        .map(|word| word.trim_start_matches('v').trim_end_matches('.'))
        .find(is_version)
        .map_or_else(String::new, |word| {
            limits::cut(word, limits::NAME_BYTES_MAX)
        })
}

#[cfg(test)]
mod tests {
    use super::version_in;

    #[test]
    fn a_version_is_found_in_every_way_of_telling_it() {
        for (answer, version) in [
            ("2.1.197 (Claude Code)\n", "2.1.197"),
            ("codex-cli 0.169.0\n", "0.169.0"),
            ("warning: 3 things\n v1.18.33\n", "1.18.33"),
            ("GitHub Copilot CLI 1.0.102.\n", "1.0.102"),
            ("unknown\n", ""),
        ] {
            assert_eq!(version_in(answer), version, "{answer}");
        }
    }
}
