//! Whether somebody runs an attempt, for who is not its worker.

use std::{io, path::Path};

use super::files::{self, EXIT, RUNNING, Running};

/// Whether the CLI of an attempt whose supervisor has the directory `dir` runs, or is about to be started.
pub fn is_running(dir: &Path) -> io::Result<bool> {
    let running = under_way(dir)?;
    Ok(running.is_some_and(|running| running.cli.unwrap_or(running.supervisor).is_alive()))
}

/// Whether something is left of it: its CLI, or a supervisor that has not yet ended all that it left.
pub fn is_left(dir: &Path) -> io::Result<bool> {
    let running = under_way(dir)?;
    Ok(running.is_some_and(|running| {
        let cli = running.cli.is_some_and(|cli| cli.is_alive());
        cli || running.supervisor.is_alive()
    }))
}

/// Who runs it; none where its end is written down.
fn under_way(dir: &Path) -> io::Result<Option<Running>> {
    match dir.join(EXIT).exists() {
        true => Ok(None),
        false => files::read_json(dir, RUNNING),
    }
}

/// Writes down that this very process is a supervisor at work in `dir`.
#[cfg(test)]
pub fn note_this_as_running(dir: &Path) -> io::Result<()> {
    let running = Running::begun_by(super::identity::Identity::me()?);
    files::add_json(dir, RUNNING, &running)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use rustix::process::Pid;

    use super::*;
    use crate::process::identity::Identity;

    #[test]
    fn a_cli_that_has_ended_does_not_run_and_its_supervisor_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let looks = || {
            let (runs, left) = (is_running(dir.path()), is_left(dir.path()));
            (runs.unwrap(), left.unwrap())
        };
        let begin = || Command::new("sleep").arg("60").spawn().unwrap();
        let who = |child: &Child| Identity::of(Pid::from_child(child)).unwrap();
        assert_eq!(looks(), (false, false), "nobody has begun");
        let (mut supervisor, mut cli) = (begin(), begin());
        let mut running = Running::begun_by(who(&supervisor));
        files::add_json(dir.path(), RUNNING, &running).unwrap();
        assert_eq!(looks(), (true, true), "it is about to be started");
        running.cli = Some(who(&cli));
        files::add_json(dir.path(), RUNNING, &running).unwrap();
        assert_eq!(looks(), (true, true));
        cli.kill().unwrap();
        cli.wait().unwrap();
        assert_eq!(looks(), (false, true));
        supervisor.kill().unwrap();
        supervisor.wait().unwrap();
        assert_eq!(looks(), (false, false));
    }
}
