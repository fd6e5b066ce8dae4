//! The supervisor and its client, with real processes.
//!
//! This program is also the supervisor, and a worker that is killed: see `main`.
#![expect(clippy::unwrap_used, reason = "a test, where a panic is the report")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use libtest_mimic::{Arguments, Trial};
use orchestra_types::Exit;
use orchestra_worker::{
    SelfCommand,
    process::{
        ExitRecord, KillMethod, LOG_BYTES_MAX, Limits, Nursery, Offsets, Process, ProcessError,
        ProcessEvent, Reattach, Spawn, Stream, nursery_main, supervise_main,
    },
};
use tempfile::TempDir;

/// Longest time that anything here may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(40);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("supervise") => supervise_main(Path::new(&args[2])),
        Some("nursery") => nursery_main(),
        Some("idle-worker") => idle_worker(),
        Some("worker") => worker(Path::new(&args[2])),
        Some(_) | None => libtest_mimic::run(&Arguments::from_args(), trials()).exit_code(),
    }
}

fn trials() -> Vec<Trial> {
    let tests: [(&str, fn()); 21] = [
        (
            "an_order_that_a_nursery_takes_late_starts_nothing",
            an_order_that_a_nursery_takes_late_starts_nothing,
        ),
        (
            "a_nursery_ends_with_a_killed_worker",
            a_nursery_ends_with_a_killed_worker,
        ),
        (
            "a_supervisor_has_nothing_of_an_earlier_attempt",
            a_supervisor_has_nothing_of_an_earlier_attempt,
        ),
        (
            "a_killed_nursery_costs_nothing_and_is_replaced",
            a_killed_nursery_costs_nothing_and_is_replaced,
        ),
        (
            "a_nursery_that_cannot_start_is_done_without",
            a_nursery_that_cannot_start_is_done_without,
        ),
        (
            "a_cli_that_kills_its_supervisor_at_once_is_found_and_ended",
            a_cli_that_kills_its_supervisor_at_once_is_found_and_ended,
        ),
        (
            "nothing_of_a_hostile_tree_survives_without_cgroups",
            nothing_of_a_hostile_tree_survives_without_cgroups,
        ),
        (
            "output_comes_line_by_line_and_then_the_end",
            output_comes_line_by_line_and_then_the_end,
        ),
        (
            "input_arrives_whole_and_in_order",
            input_arrives_whole_and_in_order,
        ),
        (
            "a_cli_is_in_a_cgroup_of_its_own_from_its_first_moment",
            a_cli_is_in_a_cgroup_of_its_own_from_its_first_moment,
        ),
        ("a_missing_program_is_named", a_missing_program_is_named),
        ("a_missing_directory_is_named", a_missing_directory_is_named),
        (
            "an_interrupt_reaches_a_cli_whose_starter_ignored_it",
            an_interrupt_reaches_a_cli_whose_starter_ignored_it,
        ),
        (
            "nothing_of_a_hostile_tree_survives_a_kill",
            nothing_of_a_hostile_tree_survives_a_kill,
        ),
        (
            "nothing_of_a_hostile_tree_survives_a_normal_end",
            nothing_of_a_hostile_tree_survives_a_normal_end,
        ),
        (
            "a_daemon_that_holds_the_output_open_does_not_hang",
            a_daemon_that_holds_the_output_open_does_not_hang,
        ),
        (
            "a_killed_worker_costs_no_byte",
            a_killed_worker_costs_no_byte,
        ),
        (
            "a_supervisor_that_comes_late_starts_nothing",
            a_supervisor_that_comes_late_starts_nothing,
        ),
        (
            "a_killed_supervisor_is_noticed_and_its_cli_ended",
            a_killed_supervisor_is_noticed_and_its_cli_ended,
        ),
        (
            "a_line_without_end_costs_bounded_memory",
            a_line_without_end_costs_bounded_memory,
        ),
        (
            "a_cli_that_does_not_read_can_still_be_stopped",
            a_cli_that_does_not_read_can_still_be_stopped,
        ),
    ];
    let trial = |(name, test): (&str, fn())| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    tests.into_iter().map(trial).collect()
}

fn self_command() -> SelfCommand {
    SelfCommand {
        exe: std::env::current_exe().unwrap(),
        prefix: Vec::new(),
    }
}

/// An attempt's directory, deeper than a socket's address may be long.
struct Place {
    tmp: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            tmp: tempfile::tempdir().unwrap(),
        };
        fs::create_dir_all(place.dir()).unwrap();
        place
    }

    fn dir(&self) -> PathBuf {
        self.tmp.path().join("d".repeat(100)).join("attempt")
    }

    fn spawn(&self, program: &str, args: &[&str]) -> Spawn {
        let path = std::env::var("PATH").unwrap();
        Spawn {
            dir: self.dir(),
            program: program.into(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            env: BTreeMap::from([("PATH".to_owned(), path)]),
            cwd: self.tmp.path().to_owned(),
            stdin: Vec::new(),
            keep_stdin: false,
            limits: Limits::default(),
            log_bytes_max: LOG_BYTES_MAX,
        }
    }

    fn shell(&self, script: &str) -> Spawn {
        self.spawn("sh", &["-c", script])
    }

    /// The pid that a script wrote to `name`, once it did.
    fn pid(&self, name: &str) -> i32 {
        let path = self.tmp.path().join(name);
        eventually(&format!("{name} is written"), || {
            fs::read_to_string(&path)
                .ok()?
                .strip_suffix('\n')?
                .parse()
                .ok()
        })
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, test)
            .await
            .expect("it takes too long")
    })
}

async fn start(spawn: &Spawn) -> Process {
    Process::start(&nursery(), spawn).await.unwrap()
}

fn nursery() -> Nursery {
    Nursery::new(self_command())
}

/// Without a nursery: each supervisor is started by itself, behind `script`.
fn alone(script: &str, zero: &str) -> SelfCommand {
    let script = format!("[ \"$2\" = nursery ] && exit 1; {script} exec \"$@\"");
    let me = std::env::current_exe().unwrap();
    let words = ["-c", &script, zero, me.to_str().unwrap()];
    SelfCommand {
        exe: "sh".into(),
        prefix: words.map(str::to_owned).to_vec(),
    }
}

/// Every line until the end, and the end.
async fn finish(process: &mut Process) -> (Vec<(Stream, String)>, ExitRecord) {
    let mut lines = Vec::new();
    loop {
        match process.next().await.unwrap() {
            ProcessEvent::Line(line) => {
                lines.push((line.stream, String::from_utf8(line.bytes).unwrap()));
            }
            ProcessEvent::Exited(record) => return (lines, record),
        }
    }
}

fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn output_comes_line_by_line_and_then_the_end() {
    run(async {
        let place = Place::new();
        let mut process = start(&place.shell("echo one; echo two >&2; printf three; exit 7")).await;
        let (mut lines, record) = finish(&mut process).await;
        lines.sort_by_key(|(stream, _)| *stream as u8);
        let expected = [
            (Stream::Stdout, "one"),
            (Stream::Stdout, "three"),
            (Stream::Stderr, "two"),
        ];
        assert_eq!(lines, expected.map(|(s, l)| (s, l.to_owned())));
        assert_eq!(record.exit, Exit::Code(7));
        assert_eq!(
            (record.stdout.kept, record.stderr.kept, record.survivors),
            (9, 4, false)
        );
        assert!(
            matches!(process.next().await.unwrap(), ProcessEvent::Exited(_)),
            "again if asked"
        );
        assert!(!place.dir().join("spawn.json").exists(), "it holds secrets");
        let again = Process::reattach(
            &place.dir(),
            Offsets {
                stdout: 4,
                stderr: 4,
            },
        )
        .unwrap();
        let Reattach::Ended(mut again) = again else {
            panic!("{again:?}")
        };
        let (lines, same) = finish(&mut again).await;
        assert_eq!(
            (lines, same),
            (vec![(Stream::Stdout, "three".to_owned())], record)
        );
    });
}

fn input_arrives_whole_and_in_order() {
    run(async {
        let place = Place::new();
        let mut spawn = place.shell("cat | sha256sum");
        spawn.stdin = vec![b'a'; 300_000];
        spawn.keep_stdin = true;
        let mut process = start(&spawn).await;
        process.write_stdin(&vec![b'b'; 3_000_000]).unwrap();
        process.write_stdin(b"c").unwrap();
        process.close_stdin();
        let (lines, record) = finish(&mut process).await;
        let sum = "head -c 300000 /dev/zero | tr '\\0' a; head -c 3000000 /dev/zero | tr '\\0' b; printf c";
        let expected = Command::new("sh")
            .args(["-c", &format!("({sum}) | sha256sum")])
            .output()
            .unwrap();
        assert_eq!(
            lines[0].1,
            String::from_utf8(expected.stdout).unwrap().trim_end()
        );
        assert_eq!(record.exit, Exit::Code(0));
    });
}

fn not_started(spawn: impl FnOnce(&Place) -> Spawn) -> String {
    run(async {
        let place = Place::new();
        let mut process = start(&spawn(&place)).await;
        match finish(&mut process).await.1.exit {
            Exit::NotStarted { reason } => reason,
            other => panic!("{other:?}"),
        }
    })
}

fn a_missing_program_is_named() {
    let reason = not_started(|place| place.spawn("no-such-program", &[]));
    assert!(
        reason.contains("`no-such-program`") && reason.contains("No such file"),
        "{reason}"
    );
}

fn a_missing_directory_is_named() {
    let reason = not_started(|place| Spawn {
        cwd: "/no/such/dir".into(),
        ..place.shell("true")
    });
    assert!(reason.contains("`/no/such/dir`"), "{reason}");
}

fn an_interrupt_reaches_a_cli_whose_starter_ignored_it() {
    run(async {
        let place = Place::new();
        let ignoring = SelfCommand {
            exe: "sh".into(),
            prefix: vec![
                "-c".to_owned(),
                "trap '' INT QUIT HUP; exec \"$0\" \"$@\"".to_owned(),
                std::env::current_exe()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned(),
            ],
        };
        let spawn = place.spawn("sleep", &["1000"]);
        let nursery = Nursery::new(ignoring);
        let mut process = Process::start(&nursery, &spawn).await.unwrap();
        process.interrupt().await;
        assert_eq!(finish(&mut process).await.1.exit, Exit::Signal(2));
    });
}

/// Processes that do what they can to stay: ignore signals, leave session, group and parent,
/// forget their environment, and fork on.
const HOSTILE: &str = "
    trap '' TERM INT HUP
    (sh -c 'echo $$ > p1; exec sleep 1000') &
    setsid sh -c 'trap \"\" TERM; echo $$ > p2; while :; do sleep 1; done' &
    (setsid sh -c '(echo $(sh -c \"echo \\$PPID\") > p3; exec env -i sleep 1000) & exit' &)
    (env -i setsid sh -c 'while :; do (sleep 0.01 &) ; done' &)
    nohup setsid sh -c 'echo $$ > p4; exec sleep 1000' > /dev/null 2>&1 &
";

fn hostile_pids(place: &Place) -> Vec<i32> {
    ["p1", "p2", "p3", "p4"]
        .map(|name| place.pid(name))
        .to_vec()
}

fn nothing_of_a_hostile_tree_survives_a_kill() {
    run(async {
        let place = Place::new();
        let mut process = start(&place.shell(&format!("{HOSTILE} sleep 1000"))).await;
        let pids = hostile_pids(&place);
        process.terminate().await;
        assert!(pids.iter().all(|pid| is_alive(*pid)), "they ignore that");
        process.kill().await;
        process.kill().await;
        let (_, record) = finish(&mut process).await;
        assert_eq!(record.exit, Exit::Signal(9));
        assert!(!record.survivors);
        assert!(pids.iter().all(|pid| !is_alive(*pid)), "{record:?}");
        process.kill().await;
    });
}

fn a_cli_is_in_a_cgroup_of_its_own_from_its_first_moment() {
    run(async {
        let place = Place::new();
        let script = "cat /proc/self/cgroup > own; cat /proc/$PPID/cgroup > above";
        let mut process = start(&place.shell(script)).await;
        let (_, record) = finish(&mut process).await;
        assert_eq!(record.exit, Exit::Code(0));
        let read = |name| fs::read_to_string(place.tmp.path().join(name)).unwrap();
        let own = read("own");
        match record.kill_method {
            KillMethod::Cgroup => {
                assert!(own.contains("/orchestra-"), "{own}");
                assert_ne!(own, read("above"), "the supervisor would be killed with it");
            }
            other => eprintln!("skipped: attempts have no cgroup here, but {other:?}"),
        }
    });
}

/// Starts supervisors that see no cgroups; none where this user cannot hide them.
fn without_cgroups() -> Option<SelfCommand> {
    let script = "umount -R /sys/fs/cgroup && exec \"$0\" \"$@\"";
    let unshare = |rest: &[&str]| {
        let words = ["-m", "sh", "-c", script]
            .into_iter()
            .chain(rest.iter().copied());
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    let possible = Command::new("unshare").args(unshare(&["true"])).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this user cannot hide the cgroups");
        return None;
    }
    let exe = std::env::current_exe().unwrap();
    Some(SelfCommand {
        exe: "unshare".into(),
        prefix: unshare(&[exe.to_str().unwrap()]),
    })
}

fn nothing_of_a_hostile_tree_survives_without_cgroups() {
    let Some(hidden) = without_cgroups() else {
        return;
    };
    run(async {
        let place = Place::new();
        let spawn = place.shell(&format!("{HOSTILE} sleep 1000"));
        let nursery = Nursery::new(hidden);
        let mut process = Process::start(&nursery, &spawn).await.unwrap();
        let pids = hostile_pids(&place);
        process.kill().await;
        let (_, record) = finish(&mut process).await;
        assert_eq!(record.kill_method, KillMethod::Subreaper);
        assert!(!record.survivors, "{record:?}");
        assert!(pids.iter().all(|pid| !is_alive(*pid)), "{record:?}");
    });
}

fn a_cli_that_kills_its_supervisor_at_once_is_found_and_ended() {
    let ways = [
        Some(self_command()),
        Some(alone("", "sh")),
        without_cgroups(),
    ];
    for command in ways.into_iter().flatten() {
        run(async {
            let place = Place::new();
            // It does so before it is written down that it runs, and escapes first.
            let script = "setsid sh -c 'echo $$ > p1; exec sleep 1000' & \
                          while ! [ -s p1 ]; do :; done; echo $$ > p2; kill -9 $PPID; exec sleep 1000";
            // The worker may or may not have heard that it runs.
            let ended =
                match Process::start(&Nursery::new(command.clone()), &place.shell(script)).await {
                    Ok(mut process) => finish(&mut process).await.1.exit,
                    Err(ProcessError::EndedAtOnce { .. }) => Exit::Unknown,
                    Err(error) => panic!("{error}"),
                };
            assert_eq!(ended, Exit::Unknown);
            let pids = ["p1", "p2"].map(|name| place.pid(name));
            assert!(pids.iter().all(|pid| !is_alive(*pid)), "{command:?}");
        });
    }
}

fn nothing_of_a_hostile_tree_survives_a_normal_end() {
    run(async {
        let place = Place::new();
        let script = format!("{HOSTILE} while ! [ -s p1 -a -s p2 -a -s p3 -a -s p4 ]; do :; done");
        let mut process = start(&place.shell(&script)).await;
        let (_, record) = finish(&mut process).await;
        assert_eq!(record.exit, Exit::Code(0));
        assert!(record.left_processes && !record.survivors, "{record:?}");
        assert!(hostile_pids(&place).iter().all(|pid| !is_alive(*pid)));
    });
}

fn a_daemon_that_holds_the_output_open_does_not_hang() {
    run(async {
        let place = Place::new();
        let script = "setsid sh -c 'echo $$ > p1; exec sleep 1000' & \
                      while ! [ -s p1 ]; do :; done; echo done";
        let mut process = start(&place.shell(script)).await;
        let begun = Instant::now();
        let (lines, record) = finish(&mut process).await;
        assert_eq!(lines, [(Stream::Stdout, "done".to_owned())]);
        assert_eq!(record.exit, Exit::Code(0));
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert!(!is_alive(place.pid("p1")));
    });
}

/// A worker that prints what it reads, until it is killed.
fn worker(dir: &Path) -> ExitCode {
    let spawn = Spawn {
        dir: dir.to_owned(),
        program: "sh".into(),
        args: vec![
            "-c".to_owned(),
            "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; read x; echo got $x"
                .to_owned(),
        ],
        env: BTreeMap::new(),
        cwd: dir.to_owned(),
        stdin: Vec::new(),
        keep_stdin: true,
        limits: Limits::default(),
        log_bytes_max: LOG_BYTES_MAX,
    };
    run(async {
        let mut process = start(&spawn).await;
        while let ProcessEvent::Line(line) = process.next().await.unwrap() {
            println!("{} {}", line.end, String::from_utf8(line.bytes).unwrap());
        }
    });
    ExitCode::SUCCESS
}

fn a_killed_worker_costs_no_byte() {
    use std::io::BufRead;
    run(async {
        let place = Place::new();
        let mut first = Command::new(std::env::current_exe().unwrap())
            .arg("worker")
            .arg(place.dir())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = std::io::BufReader::new(first.stdout.take().unwrap()).lines();
        let seen: Vec<String> = out.by_ref().take(1234).map(Result::unwrap).collect();
        first.kill().unwrap();
        first.wait().unwrap();
        let (end, _) = seen[1233].split_once(' ').unwrap();
        let from = Offsets {
            stdout: end.parse().unwrap(),
            stderr: 0,
        };
        let found = Process::reattach(&place.dir(), from).unwrap();
        let Reattach::Running(mut second) = found else {
            panic!("{found:?}")
        };
        second.write_stdin(b"hello\n").unwrap();
        let (lines, record) = finish(&mut second).await;
        let before = seen
            .iter()
            .map(|line| line.split_once(' ').unwrap().1.to_owned());
        let all: Vec<String> = before
            .chain(lines.into_iter().map(|(_, line)| line))
            .collect();
        let expected = (0..3000)
            .map(|i| format!("line {i}"))
            .chain(["got hello".to_owned()]);
        assert_eq!(all, expected.collect::<Vec<_>>());
        assert_eq!(record.exit, Exit::Code(0));
    });
}

fn a_supervisor_that_comes_late_starts_nothing() {
    run(async {
        let place = Place::new();
        // It waits at a gate, and is a supervisor only then.
        let script = "exec 2> \"$0/log\"; echo $$ > \"$0/p1\"; \
                      while ! [ -e \"$0/gate\" ]; do sleep 0.01; done;";
        let late = Nursery::new(alone(script, place.tmp.path().to_str().unwrap()));
        let spawn = place.shell("echo ran > ran");
        // The worker is killed while it waits.
        let mut starting = Box::pin(Process::start(&late, &spawn));
        let supervisor = loop {
            tokio::select! {
                biased;
                started = &mut starting => panic!("{started:?}"),
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
            if let Ok(text) = fs::read_to_string(place.tmp.path().join("p1"))
                && let Ok(pid) = text.trim().parse()
            {
                break pid;
            }
        };
        drop(starting);
        let found = Process::reattach(&place.dir(), Offsets::default());
        assert!(
            matches!(found, Err(ProcessError::NotThere { .. })),
            "{found:?}"
        );
        // The next worker starts it again, in a directory of the same name.
        fs::remove_dir_all(place.dir()).unwrap();
        fs::create_dir(place.dir()).unwrap();
        let mut again = start(&place.shell("echo again >> ran; sleep 1000")).await;
        fs::write(place.tmp.path().join("gate"), "").unwrap();
        eventually("it gives up", || (!is_alive(supervisor)).then_some(()));
        let log = fs::read_to_string(place.tmp.path().join("log")).unwrap();
        assert!(log.contains("spawn.json"), "{log}");
        again.kill().await;
        assert_eq!(finish(&mut again).await.1.exit, Exit::Signal(9));
        assert_eq!(
            fs::read_to_string(place.tmp.path().join("ran")).unwrap(),
            "again\n"
        );
    });
}

/// As the one above, with a nursery that has the order and is held up.
fn an_order_that_a_nursery_takes_late_starts_nothing() {
    run(async {
        let place = Place::new();
        let gate = "echo $$ > \"$0/nursery\"; while ! [ -e \"$0/gate\" ]; do sleep 0.01; done; \
                    exec \"$@\"";
        let me = std::env::current_exe().unwrap();
        let zero = place.tmp.path().to_str().unwrap();
        let words = ["-c", gate, zero, me.to_str().unwrap()];
        let late = Nursery::new(SelfCommand {
            exe: "sh".into(),
            prefix: words.map(str::to_owned).to_vec(),
        });
        let spawn = place.shell("echo ran > ran");
        let mut starting = Box::pin(Process::start(&late, &spawn));
        tokio::select! {
            biased;
            started = &mut starting => panic!("{started:?}"),
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        drop(starting);
        let found = Process::reattach(&place.dir(), Offsets::default());
        assert!(
            matches!(found, Err(ProcessError::NotThere { .. })),
            "{found:?}"
        );
        fs::remove_dir_all(place.dir()).unwrap();
        fs::create_dir(place.dir()).unwrap();
        let mut again = start(&place.shell("echo again >> ran; sleep 1000")).await;
        fs::write(place.tmp.path().join("gate"), "").unwrap();
        let nursery = place.pid("nursery");
        drop(late);
        eventually("it gives up", || (!is_alive(nursery)).then_some(()));
        again.kill().await;
        assert_eq!(finish(&mut again).await.1.exit, Exit::Signal(9));
        let ran = fs::read_to_string(place.tmp.path().join("ran")).unwrap();
        assert_eq!(ran, "again\n");
    });
}

/// A worker that has nothing to do, until it is killed.
fn idle_worker() -> ExitCode {
    run(async {
        let nursery = nursery();
        nursery.open();
        println!("ready");
        tokio::time::sleep(PATIENCE).await;
    });
    ExitCode::SUCCESS
}

/// What `/proc/PID/stat` says of a process, from its state on.
fn stat(pid: i32) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    rest.split(' ').map(str::to_owned).collect()
}

fn parent(pid: i32) -> Option<i32> {
    stat(pid).get(1)?.parse().ok()
}

fn a_nursery_ends_with_a_killed_worker() {
    let mut worker = Command::new(std::env::current_exe().unwrap())
        .arg("idle-worker")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = std::io::BufReader::new(worker.stdout.take().unwrap());
    std::io::BufRead::lines(out).next().unwrap().unwrap();
    let id = i32::try_from(worker.id()).unwrap();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let nursery: i32 = pids.find(|pid| parent(*pid) == Some(id)).unwrap();
    // It is ready, and has taken its cgroup of the try down again.
    eventually("it waits for orders", || {
        stat(nursery)
            .first()
            .filter(|state| *state == "S")
            .map(drop)
    });
    worker.kill().unwrap();
    worker.wait().unwrap();
    eventually("the nursery ends", || (!is_alive(nursery)).then_some(()));
}

fn a_supervisor_has_nothing_of_an_earlier_attempt() {
    run(async {
        let nursery = nursery();
        let first = Place::new();
        let mut spawn = first.shell("sleep 1000");
        spawn
            .env
            .insert("TOKEN".to_owned(), "secret-of-the-first".to_owned());
        let mut running = Process::start(&nursery, &spawn).await.unwrap();
        let second = Place::new();
        let script = "tr '\\0' '\\n' < /proc/$PPID/environ; ls -l /proc/self/fd /proc/$PPID/fd; env; \
                      echo end";
        let mut process = Process::start(&nursery, &second.shell(script))
            .await
            .unwrap();
        let (lines, _) = finish(&mut process).await;
        let seen: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
        assert_eq!(seen.last().unwrap(), "end");
        let place = first.tmp.path().to_str().unwrap();
        let of_the_first = |line: &&String| line.contains("secret-of") || line.contains(place);
        assert_eq!(seen.iter().find(of_the_first), None);
        running.kill().await;
        finish(&mut running).await;
    });
}

fn a_killed_nursery_costs_nothing_and_is_replaced() {
    run(async {
        let nursery = nursery();
        let first = Place::new();
        let spawn = first.shell("echo $$ > p1; while ! [ -e gate ]; do sleep 0.01; done; echo on");
        let mut running = Process::start(&nursery, &spawn).await.unwrap();
        let supervisor = parent(first.pid("p1")).unwrap();
        let pid = rustix::process::Pid::from_raw(parent(supervisor).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        eventually("the nursery is gone", || {
            (!is_alive(pid.as_raw_pid())).then_some(())
        });
        let second = Place::new();
        let mut process = Process::start(&nursery, &second.shell("echo $PPID"))
            .await
            .unwrap();
        assert_eq!(finish(&mut process).await.1.exit, Exit::Code(0));
        fs::write(first.tmp.path().join("gate"), "").unwrap();
        let (lines, record) = finish(&mut running).await;
        assert_eq!(lines, [(Stream::Stdout, "on".to_owned())]);
        assert_eq!(record.exit, Exit::Code(0));
    });
}

fn a_nursery_that_cannot_start_is_done_without() {
    run(async {
        let place = Place::new();
        let nursery = Nursery::new(alone("", "sh"));
        let mut process = Process::start(&nursery, &place.shell("echo $PPID > p1"))
            .await
            .unwrap();
        assert_eq!(finish(&mut process).await.1.exit, Exit::Code(0));
    });
}

fn a_killed_supervisor_is_noticed_and_its_cli_ended() {
    run(async {
        let place = Place::new();
        let mut process = start(&place.shell("echo hello; echo $$ > p1; exec sleep 1000")).await;
        let cli = place.pid("p1");
        eventually("its output is kept", || {
            let log = fs::read(place.dir().join("stdout.log")).unwrap_or_default();
            (log == b"hello\n").then_some(())
        });
        let stat = fs::read_to_string(format!("/proc/{cli}/stat")).unwrap();
        let supervisor = stat
            .rsplit_once(") ")
            .unwrap()
            .1
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let pid = rustix::process::Pid::from_raw(supervisor).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let (lines, record) = finish(&mut process).await;
        assert_eq!(lines, [(Stream::Stdout, "hello".to_owned())]);
        assert_eq!(record.exit, Exit::Unknown);
        eventually("the CLI is gone", || (!is_alive(cli)).then_some(()));
        let found = Process::reattach(&place.dir(), Offsets::default()).unwrap();
        assert!(matches!(found, Reattach::Lost(_)), "{found:?}");
    });
}

fn a_line_without_end_costs_bounded_memory() {
    run(async {
        let place = Place::new();
        let script = "head -c 400000000 /dev/zero | tr '\\0' x; echo; echo end";
        let mut process = start(&place.shell(script)).await;
        let ProcessEvent::Line(long) = process.next().await.unwrap() else {
            panic!()
        };
        assert_eq!(
            (long.bytes.len(), long.end, long.cut),
            (8 * 1024 * 1024, 400_000_001, true)
        );
        let (lines, record) = finish(&mut process).await;
        assert_eq!(lines, [(Stream::Stdout, "end".to_owned())]);
        assert_eq!(record.stdout.kept, 400_000_005);
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let peak = status
            .lines()
            .find_map(|l| l.strip_prefix("VmHWM:"))
            .unwrap();
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        // Other tests run in this process at the same time.
        assert!(peak < 250_000, "{peak} kB");
    });
}

fn a_cli_that_does_not_read_can_still_be_stopped() {
    run(async {
        let place = Place::new();
        let mut spawn = place.shell("sleep 1000");
        spawn.keep_stdin = true;
        let mut process = start(&spawn).await;
        while process.write_stdin(&[b'x'; 1024 * 1024]).is_ok() {}
        process.kill().await;
        assert_eq!(finish(&mut process).await.1.exit, Exit::Signal(9));
    });
}
