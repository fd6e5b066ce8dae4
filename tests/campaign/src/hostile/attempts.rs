//! Hostile attempts through a built head and worker: each is ended in one of three ways, and what is
//! alive then is looked at.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    process::{Child, Command, Stdio},
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use orchestra_proto::v1::{self, TaskStatus};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use super::{
    crowd::Crowd,
    inside::{Asked, Mode, Report, has_own_bound},
    kind::{Ending, Kind},
    sight::{Sight, TOKEN, living},
    tree::{Tree, in_secs},
};
use crate::{
    client::{self, Admin},
    head::Site,
};

/// How many attempts run at once.
const SLOTS: u32 = 16;
/// How often it is asked how far they are.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How long nothing may happen before the proof is given up.
const NOTHING_FOR: Duration = Duration::from_secs(90);
/// How long a hostile tree may live at most, in seconds.
const LIVES_SECS: u64 = 600;
/// Nothing of an attempt is alive so long after its first process.
const GONE_WITHIN: Duration = Duration::from_millis(100);
/// A process that ends by itself leaves its children this much longer to say a last word.
const LAST_WORD: Duration = Duration::from_millis(200);
/// How precise a look is: how long one takes on a busy machine.
const LOOK: Duration = Duration::from_millis(50);
/// Hides the cgroups from what is run.
const HIDDEN: &str = "umount -R /sys/fs/cgroup && exec \"$0\" \"$@\"";

/// One attempt.
struct Hostile {
    number: u64,
    kind: Kind,
    ending: Ending,
    tree: Tree,
    /// It was told to end, or is being cancelled.
    told: bool,
    /// How the head says that it ended.
    ended: Option<TaskStatus>,
}

/// Runs all attempts that were asked for.
pub fn run(asked: &Asked) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let site = Site {
        binary: asked.head.clone(),
        listen: "127.0.0.1:0".to_owned(),
        state: asked.dir.join("state"),
        log: asked.dir.join("head.log"),
        env: Vec::new(),
    };
    let head = site.start()?;
    let worker = Worker::start(asked, &site)?;
    let sight = Arc::new(Sight::start());
    let crowd = Crowd::start(&sight);
    let attempts = runtime.block_on(async {
        let mut admin = Admin::new(site.admin_channel().await?);
        let mut attempts = submit(&mut admin, asked, &sight).await?;
        follow(&mut admin, &mut attempts, &sight).await?;
        anyhow::Ok(attempts)
    });
    // A connection that nobody serves any more would hold the head up.
    drop(runtime);
    let told = crowd.stop();
    let attempts = attempts.with_context(|| worker.log())?;
    worker.stop()?;
    head.stop()?;
    let mut report = judge(asked, &attempts.into_values().collect::<Vec<_>>(), &sight);
    let left = living();
    if !left.is_empty() {
        report
            .broken
            .push((0, format!("alive when all was over: {left:?}")));
    }
    report.bystanders = told.count.load(Ordering::Relaxed);
    report.reused = told.reused.load(Ordering::Relaxed);
    let hit = told.hit.lock().unwrap_or_else(PoisonError::into_inner);
    report
        .broken
        .extend(hit.iter().map(|text| (0, text.clone())));
    if has_own_bound() && report.reused == 0 {
        report
            .broken
            .push((0, "no number came again: nothing was tried".to_owned()));
    }
    report.looks = match Arc::try_unwrap(sight) {
        Ok(sight) => sight.stop(),
        Err(_) => 0,
    };
    Ok(report)
}

async fn submit(
    admin: &mut Admin,
    asked: &Asked,
    sight: &Sight,
) -> anyhow::Result<BTreeMap<u64, Hostile>> {
    let program = std::env::current_exe()?;
    let all: Vec<Hostile> = (0..asked.attempts)
        .map(|n| hostile(asked, asked.first + n))
        .collect();
    for hostile in &all {
        let token = hostile.tree.token.clone();
        sight.table().insert(token, Default::default());
    }
    let tasks = all.iter().map(|hostile| {
        let line = hostile
            .tree
            .command_line(&program, hostile.kind, hostile.ending);
        task(&hostile.tree.token, line)
    });
    let request = v1::SubmitRequest {
        idempotency_key: "hostile".to_owned(),
        tasks: tasks.collect(),
    };
    let ids = admin.submit(request).await?.into_inner().ids;
    ensure!(ids.len() == all.len(), "{} tasks were accepted", ids.len());
    Ok(ids.into_iter().zip(all).collect())
}

fn hostile(asked: &Asked, number: u64) -> Hostile {
    let turn = usize::try_from(number).unwrap_or_default();
    let kinds = Kind::ALL.len();
    Hostile {
        number,
        kind: Kind::ALL[turn % kinds],
        ending: Ending::ALL[turn / kinds % Ending::ALL.len()],
        tree: Tree {
            token: format!("{TOKEN}{number}"),
            dir: asked.dir.clone(),
            deadline: in_secs(LIVES_SECS + asked.attempts),
        },
        told: false,
        ended: None,
    }
}

fn task(description: &str, argv: Vec<String>) -> v1::NewTask {
    let argv = v1::shell_command::Argv { args: argv };
    let command = v1::shell_command::Command::Argv(argv);
    let place = v1::place::Place::Empty(v1::place::Empty {});
    v1::NewTask {
        spec: Some(v1::TaskSpec {
            description: description.to_owned(),
            runner: "shell".to_owned(),
            timeout_ms: LIVES_SECS * 1000,
            command: Some(v1::ShellCommand {
                command: Some(command),
            }),
            place: Some(v1::Place { place: Some(place) }),
            ..v1::TaskSpec::default()
        }),
        ..v1::NewTask::default()
    }
}

/// Ends each attempt as soon as its tree is up, until the head has said of each how it ended.
async fn follow(
    admin: &mut Admin,
    attempts: &mut BTreeMap<u64, Hostile>,
    sight: &Sight,
) -> anyhow::Result<()> {
    let mut last = Instant::now();
    while attempts.values().any(|hostile| hostile.ended.is_none()) {
        let mut happened = false;
        for (task, hostile) in attempts.iter_mut().filter(|(_, h)| !h.told) {
            happened |= end_if_up(admin, *task, hostile, sight).await?;
        }
        happened |= take_ends(admin, attempts, sight).await?;
        if happened {
            last = Instant::now();
        }
        let open = attempts.values().filter(|h| h.ended.is_none());
        ensure!(
            last.elapsed() < NOTHING_FOR,
            "nothing happens any more; open: {:?}",
            open.map(|h| (h.number, h.kind, h.told)).collect::<Vec<_>>()
        );
        sleep(ASK_EVERY).await;
    }
    Ok(())
}

/// Lets an attempt end when all of its tree is there.
async fn end_if_up(
    admin: &mut Admin,
    task: u64,
    hostile: &mut Hostile,
    sight: &Sight,
) -> anyhow::Result<bool> {
    let Ok(main) = fs::read_to_string(hostile.tree.main_file()) else {
        return Ok(false);
    };
    let main = main.trim().parse().context("it wrote its number")?;
    if let Some(seen) = sight.table().get_mut(&hostile.tree.token) {
        seen.main = Some(main);
    }
    match hostile.ending {
        Ending::Ends => fs::write(hostile.tree.go_file(), "")?,
        Ending::Cancelled | Ending::Deaf => {
            client::cancel(admin, task).await?;
        }
    }
    hostile.told = true;
    Ok(true)
}

/// Notes which attempts have ended since.
async fn take_ends(
    admin: &mut Admin,
    attempts: &mut BTreeMap<u64, Hostile>,
    sight: &Sight,
) -> anyhow::Result<bool> {
    let ended = [
        TaskStatus::Succeeded,
        TaskStatus::Failed,
        TaskStatus::Cancelled,
        TaskStatus::NeedsReview,
    ];
    let open = attempts.iter().find(|(_, h)| h.ended.is_none());
    let request = v1::ListTasksRequest {
        statuses: ended.map(i32::from).to_vec(),
        after_id: open.map_or(0, |(id, _)| id - 1),
        limit: 1000,
        ..v1::ListTasksRequest::default()
    };
    let listed = admin.list_tasks(request).await?.into_inner().tasks;
    let mut happened = false;
    for task in listed {
        let Some(hostile) = attempts.get_mut(&task.id).filter(|h| h.ended.is_none()) else {
            continue;
        };
        hostile.ended = Some(task.status());
        happened = true;
        if let Some(seen) = sight.table().get_mut(&hostile.tree.token) {
            seen.reported = Some(Instant::now());
        }
    }
    Ok(happened)
}

/// Compares what was seen with what was promised.
fn judge(asked: &Asked, attempts: &[Hostile], sight: &Sight) -> Report {
    let mut report = Report::default();
    let table = sight.table();
    for hostile in attempts {
        report.attempts += 1;
        let what = format!("{} that is {}", hostile.kind.name(), hostile.ending.name());
        let mut broken = |text: String| report.broken.push((hostile.number, text));
        let promised = match hostile.ending {
            Ending::Ends => TaskStatus::Succeeded,
            Ending::Cancelled | Ending::Deaf => TaskStatus::Cancelled,
        };
        if hostile.ended != Some(promised) {
            broken(format!("{what}: the head says {:?}", hostile.ended));
        }
        let Some(seen) = table.get(&hostile.tree.token) else {
            continue;
        };
        if !seen.survivors.is_empty() {
            let alive = &seen.survivors;
            broken(format!(
                "{what}: {alive:?} alive after its end was reported"
            ));
        }
        let Some(outlived) = seen.outlived() else {
            broken(format!("{what}: its first process was never seen dead"));
            continue;
        };
        let may = match hostile.ending {
            Ending::Ends | Ending::Cancelled => GONE_WITHIN + LAST_WORD,
            Ending::Deaf => GONE_WITHIN,
        };
        if asked.strict && outlived > may + LOOK {
            broken(format!(
                "{what}: alive {outlived:?} after its first process"
            ));
        }
        if hostile.ending == Ending::Deaf {
            let ms = u64::try_from(outlived.as_millis()).unwrap_or(u64::MAX);
            report.outlived_ms.push(ms);
        }
    }
    report.outlived_ms.sort_unstable();
    report
}

/// The built worker.
struct Worker {
    child: Child,
    log: std::path::PathBuf,
}

impl Worker {
    fn start(asked: &Asked, site: &Site) -> anyhow::Result<Self> {
        let program = asked.head.with_file_name("orchestra-worker");
        ensure!(
            program.exists(),
            "there is no `{}`; build it",
            program.display()
        );
        let log = asked.dir.join("worker.log");
        let mut command = match asked.mode {
            Mode::Cgroups | Mode::Control => Command::new(&program),
            Mode::NoCgroups => {
                let mut command = Command::new("unshare");
                command.args(["-m", "sh", "-c", HIDDEN]).arg(&program);
                command
            }
        };
        let child = command
            .args(["--slots", &SLOTS.to_string(), "--state"])
            .arg(&site.state)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .context("failed to start the worker")?;
        Ok(Self { child, log })
    }

    fn log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn stop(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(
            status.success(),
            "the worker stopped with {status}\n{}",
            self.log()
        );
        Ok(())
    }
}
