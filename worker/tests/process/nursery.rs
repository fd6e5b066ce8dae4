//! Supervisors from a nursery.

use std::{fs, process::Command, process::ExitCode, process::Stdio};

use orchestra_types::Exit;
use orchestra_worker::{
    SelfCommand,
    process::{Nursery, Process, ProcessError, Stream},
};

use crate::{
    Test,
    support::{
        PATIENCE, Place, alone, eventually, finish, is_alive, nursery, only_that_ran, parent, run,
        start_again, stat,
    },
};

pub const TESTS: &[Test] = tests![
    an_order_that_a_nursery_takes_late_starts_nothing,
    a_nursery_ends_with_a_killed_worker,
    a_supervisor_has_nothing_of_an_earlier_attempt,
    a_killed_nursery_costs_nothing_and_is_replaced,
    a_nursery_that_cannot_start_is_done_without,
    a_supervisor_that_ended_as_it_began_is_in_nobodys_way,
    a_supervisor_that_cannot_listen_began_nothing,
];

/// As a supervisor that comes late, with a nursery that has the order and is held up.
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
            // The order is with the nursery, and the worker is killed.
            () = std::future::ready(()) => {}
        }
        drop(starting);
        let again = start_again(&place).await;
        fs::write(place.tmp.path().join("gate"), "").unwrap();
        let nursery = place.pid("nursery");
        drop(late);
        eventually("it gives up", || (!is_alive(nursery)).then_some(()));
        only_that_ran(&place, again).await;
    });
}

/// A worker that has nothing to do, until it is killed.
pub fn idle_worker() -> ExitCode {
    run(async {
        let nursery = nursery();
        nursery.open();
        println!("ready");
        tokio::time::sleep(PATIENCE).await;
    });
    ExitCode::SUCCESS
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
        // What is meant for the supervisor's allocator is in its environment, and not in the CLI's.
        let allocator = |line: &&String| line.starts_with("MALLOC_ARENA_MAX=");
        assert_eq!(seen.iter().filter(allocator).count(), 1);
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

/// It listened already, and found no room to write down who it is.
fn a_supervisor_that_ended_as_it_began_is_in_nobodys_way() {
    run(async {
        let place = Place::new();
        let nursery = Nursery::new(alone("", "sh"));
        let spawn = place.shell("echo $PPID > p1");
        // As if it were a socket: nobody can listen there.
        fs::write(spawn.dir.join("control.sock"), "").unwrap();
        let mut process = Process::start(&nursery, &spawn).await.unwrap();
        assert_eq!(finish(&mut process).await.1.exit, Exit::Code(0));
    });
}

fn a_supervisor_that_cannot_listen_began_nothing() {
    run(async {
        let place = Place::new();
        let spawn = place.shell("echo ran > ran");
        fs::create_dir(spawn.dir.join("control.sock")).unwrap();
        let started = Process::start(&nursery(), &spawn).await;
        let Err(ProcessError::EndedAtOnce { log }) = started else {
            panic!("{started:?}");
        };
        assert!(log.contains("Address already in use"), "{log}");
        assert!(!place.tmp.path().join("ran").exists());
    });
}
