//! Whatever ends an attempt, nothing of it stays.

use std::{fs, process::Command, time::Duration, time::Instant};

use orchestra_types::Exit;
use orchestra_worker::{
    SelfCommand,
    process::{KillMethod, Nursery, Offsets, Process, Reattach, Stream},
};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::sync::Mutex;

use crate::{
    Test,
    support::{Place, alone, eventually, finish, is_alive, parent, run, self_command, start},
};

pub const TESTS: &[Test] = tests![
    an_interrupt_reaches_a_cli_whose_starter_ignored_it,
    nothing_of_a_hostile_tree_survives_a_kill,
    a_cli_is_in_a_cgroup_of_its_own_from_its_first_moment,
    nothing_of_a_hostile_tree_survives_without_cgroups,
    a_cli_that_kills_its_supervisor_at_once_is_found_and_ended,
    nothing_of_a_hostile_tree_survives_a_normal_end,
    a_daemon_that_holds_the_output_open_does_not_hang,
    a_killed_supervisor_is_noticed_and_its_cli_ended,
    what_was_said_on_a_full_disk_is_kept_when_there_is_room,
    who_is_killed_waits_for_no_room,
];

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
        process.interrupt();
        assert_eq!(finish(&mut process).await.1.exit, Exit::Signal(2));
    });
}

/// Processes that do what they can to stay: ignore signals, leave session, group and parent,
/// forget their environment, and fork on.
pub const HOSTILE: &str = "
    trap '' TERM INT HUP
    (sh -c 'echo $$ > p1; exec sleep 1000') &
    setsid sh -c 'trap \"\" TERM; echo $$ > p2; while :; do sleep 1; done' &
    (setsid sh -c '(echo $(sh -c \"echo \\$PPID\") > p3; exec env -i sleep 1000) & exit' &)
    (env -i setsid sh -c 'while :; do (sleep 0.01 &) ; done' &)
    nohup setsid sh -c 'echo $$ > p4; exec sleep 1000' > /dev/null 2>&1 &
";

pub fn hostile_pids(place: &Place) -> Vec<i32> {
    ["p1", "p2", "p3", "p4"]
        .map(|name| place.pid(name))
        .to_vec()
}

fn nothing_of_a_hostile_tree_survives_a_kill() {
    run(async {
        let place = Place::new();
        let mut process = start(&place.shell(&format!("{HOSTILE} sleep 1000"))).await;
        let pids = hostile_pids(&place);
        process.terminate();
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
pub fn without_cgroups() -> Option<SelfCommand> {
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
            // The worker may or may not have heard that it runs: it did.
            let nursery = Nursery::new(command.clone());
            let mut process = Process::start(&nursery, &place.shell(script))
                .await
                .unwrap();
            assert_eq!(finish(&mut process).await.1.exit, Exit::Unknown);
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

fn a_killed_supervisor_is_noticed_and_its_cli_ended() {
    run(async {
        let place = Place::new();
        let mut process = start(&place.shell("echo hello; echo $$ > p1; exec sleep 1000")).await;
        let cli = place.pid("p1");
        eventually("its output is kept", || {
            let log = fs::read(place.dir().join("stdout.log")).unwrap_or_default();
            (log == b"hello\n").then_some(())
        });
        let pid = rustix::process::Pid::from_raw(parent(cli).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let (lines, record) = finish(&mut process).await;
        assert_eq!(lines, [(Stream::Stdout, "hello".to_owned())]);
        assert_eq!(record.exit, Exit::Unknown);
        eventually("the CLI is gone", || (!is_alive(cli)).then_some(()));
        let found = Process::reattach(&place.dir(), Offsets::default()).unwrap();
        assert!(matches!(found, Reattach::Lost(_)), "{found:?}");
    });
}

/// Who writes to `/dev/full` is seen by all that watch it: one at a time.
static FULL: Mutex<()> = Mutex::const_new(());

/// A CLI that says something on a full disk, and ends. Its supervisor has found the disk full.
async fn said_on_a_full_disk(place: &Place) -> Process {
    let writes = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&writes, "/dev/full", WatchFlags::CLOSE_WRITE).unwrap();
    let log = place.dir().join("stdout.log");
    let script = format!(
        "ln -s /dev/full {}; echo hello; echo $$ > p1",
        log.display()
    );
    let process = start(&place.shell(&script)).await;
    let cli = place.pid("p1");
    eventually("it has ended", || (!is_alive(cli)).then_some(()));
    let mut events = [0; 1024];
    eventually("the full disk is met", || {
        rustix::io::read(&writes, &mut events).ok()
    });
    process
}

fn what_was_said_on_a_full_disk_is_kept_when_there_is_room() {
    run(async {
        let _one = FULL.lock().await;
        let place = Place::new();
        let mut process = said_on_a_full_disk(&place).await;
        fs::remove_file(place.dir().join("stdout.log")).unwrap();
        let (lines, record) = finish(&mut process).await;
        assert_eq!(lines, [(Stream::Stdout, "hello".to_owned())]);
        assert_eq!((record.stdout.kept, record.stdout.dropped), (6, 0));
        assert_eq!(record.exit, Exit::Code(0));
        assert!(record.met.disk_full);
    });
}

fn who_is_killed_waits_for_no_room() {
    run(async {
        let _one = FULL.lock().await;
        let place = Place::new();
        let mut process = said_on_a_full_disk(&place).await;
        process.kill().await;
        let exit = place.dir().join("exit.json");
        eventually("its end is written", || exit.exists().then_some(()));
        // To be read it has no end.
        fs::remove_file(place.dir().join("stdout.log")).unwrap();
        let (lines, record) = finish(&mut process).await;
        assert_eq!(lines, []);
        assert_eq!((record.stdout.kept, record.stdout.dropped), (0, 6));
        assert_eq!(record.exit, Exit::Code(0));
    });
}
