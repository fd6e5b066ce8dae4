//! The control: hostile trees ended as one would who knows no better, by process group and by
//! numbers that were seen before. If nothing survived that and nobody else were hit, the proof would
//! prove nothing.

use std::{
    collections::BTreeSet,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    sync::{Arc, PoisonError, atomic::Ordering},
    thread,
    time::Duration,
};

use orchestra_tests::{Deadline, until};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::{
    crowd::{Crowd, Told},
    inside::{Asked, Report, has_own_bound},
    kind::{Ending, Kind},
    sight::{Sight, TOKEN, living},
    tree::{Tree, in_secs},
};

/// How long a hostile tree may live at most, in seconds.
const LIVES_SECS: u64 = 300;
/// How long numbers of the dead are waited for; a tree of two may wait for long.
const AGAIN_WITHIN: Deadline = Deadline::secs(10);
/// When survivors are looked for.
const AFTER: Duration = Duration::from_millis(100);

/// Ends so many trees in the wrong ways.
pub fn run(asked: &Asked) -> anyhow::Result<Report> {
    let mut report = Report::default();
    for number in asked.first..asked.first + asked.attempts {
        let kind = Kind::ALL[usize::try_from(number).unwrap_or_default() % Kind::ALL.len()];
        let (survivors, numbers) = by_group(asked, kind, number)?;
        report.attempts += 1;
        report.survived += u64::from(survivors > 0);
        if survivors == 0 && escapes_its_group(kind) {
            let text = format!("nothing of {} survived its process group", kind.name());
            report.broken.push((number, text));
        }
        // Once is enough to know that it can be seen.
        if has_own_bound() && report.hit == 0 {
            report.hit += u64::from(by_number(&numbers)?);
        }
    }
    if has_own_bound() && report.hit == 0 {
        let text = "no bystander was hit by numbers that were seen before";
        report.broken.push((0, text.to_owned()));
    }
    let left = living();
    if !left.is_empty() {
        report
            .broken
            .push((0, format!("alive when all was over: {left:?}")));
    }
    Ok(report)
}

/// Whether a kill of the process group misses it.
fn escapes_its_group(kind: Kind) -> bool {
    match kind {
        Kind::Setsid
        | Kind::DoubleFork
        | Kind::Scrubbed
        | Kind::ForkLoop
        | Kind::HoldsStdout
        | Kind::Daemon => true,
        Kind::IgnoresTerm | Kind::Stopped => false,
    }
}

/// Kills the process group of a tree; how many survive, and all numbers that it had.
fn by_group(asked: &Asked, kind: Kind, number: u64) -> anyhow::Result<(usize, BTreeSet<i32>)> {
    let tree = Tree {
        token: format!("{TOKEN}control-{number}"),
        dir: asked.dir.clone(),
        deadline: in_secs(LIVES_SECS),
    };
    let line = tree.command_line(&std::env::current_exe()?, kind, Ending::Cancelled);
    let mut first = Command::new(&line[0])
        .args(&line[1..])
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    until("the tree is up", Deadline::SOON, || {
        Ok(tree.main_file().exists().then_some(()))
    })?;
    let mut numbers = of(&tree);
    kill_process_group(Pid::from_child(&first), Signal::KILL)?;
    first.wait()?;
    thread::sleep(AFTER);
    let survivors = of(&tree);
    numbers.extend(&survivors);
    clean(&tree)?;
    Ok((survivors.len(), numbers))
}

fn of(tree: &Tree) -> BTreeSet<i32> {
    living().remove(&tree.token).unwrap_or_default()
}

/// Ends a tree for good, by its token.
fn clean(tree: &Tree) -> anyhow::Result<()> {
    until("nothing of the tree lives", Deadline::SOON, || {
        let left = of(tree);
        for pid in &left {
            kill(*pid);
        }
        Ok(left.is_empty().then_some(()))
    })
}

fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended by itself.
        let _gone = kill_process(pid, Signal::KILL);
    }
}

/// Waits until one of the numbers is a bystander's, and kills by all of them. Whether a bystander
/// was hit.
fn by_number(numbers: &BTreeSet<i32>) -> anyhow::Result<bool> {
    let sight = Arc::new(Sight::start());
    let crowd = Crowd::start(&sight);
    let hit = until("a number comes again and is hit", AGAIN_WITHIN, || {
        for pid in numbers.iter().filter(|pid| is_bystander(**pid)) {
            kill(*pid);
        }
        Ok(has_hit(crowd.told()).then_some(()))
    });
    crowd.stop();
    Ok(hit.is_ok())
}

/// Only bystanders are hit: what else has the number, such as this program's own threads, stays.
fn is_bystander(pid: i32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.starts_with(b"sleep\0")
}

fn has_hit(told: &Told) -> bool {
    let hit = told.hit.lock().unwrap_or_else(PoisonError::into_inner);
    !hit.is_empty() && told.count.load(Ordering::Relaxed) > 0
}
