//! A supervisor, a keeper or a nursery that is stopped (SIGSTOP) makes nobody powerless.

use std::{fs, os::fd::AsRawFd, sync::mpsc::channel, thread};

use orchestra_types::Exit;
use orchestra_worker::process::{
    KillMethod, Nursery, Offsets, Process, ProcessEvent, Reattach, Silence, Stream,
};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::{
    Test,
    endings::{HOSTILE, hostile_pids, without_cgroups},
    support::{
        Place, eventually, finish, is_alive, nursery, parent, run, self_command, start, stat,
    },
};

pub const TESTS: &[Test] = tests![
    an_order_continues_a_supervisor_that_is_stopped,
    the_next_worker_ends_what_a_stopped_supervisor_has,
    a_supervisor_that_nobody_can_reach_holds_up_no_worker,
    nothing_survives_a_supervisor_that_stays_stopped,
    nothing_survives_a_keeper_that_is_stopped_too,
    what_is_left_when_all_were_killed_at_once_is_ended_and_no_alarm_where_nothing_is,
    a_keeper_that_its_agent_has_stopped_ends_with_the_rest,
    whose_files_are_gone_is_ended_with_a_stopped_supervisor,
    a_stopped_nursery_goes_on,
    a_nursery_that_stays_stopped_is_replaced,
];

/// Stops a process, and returns when it is.
fn stop(pid: i32) {
    let held = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
    pidfd_send_signal(&held, Signal::STOP).unwrap();
    eventually("it is stopped", || is_stopped(pid).then_some(()));
}

fn kill_9(pid: i32) {
    let held = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
    pidfd_send_signal(&held, Signal::KILL).unwrap();
}

fn is_stopped(pid: i32) -> bool {
    stat(pid).first().is_some_and(|state| state == "T")
}

fn living(pids: impl IntoIterator<Item = i32>) -> Vec<i32> {
    pids.into_iter().filter(|pid| is_alive(*pid)).collect()
}

/// Stops processes so that no signal but SIGKILL makes them go on, as a debugger does, until they are gone. False,
/// and said, where this user may not.
fn hold(pids: &[i32]) -> bool {
    let held = pids.iter().all(|pid| hold_one(*pid));
    if !held {
        eprintln!("skipped: this user may not trace its processes");
    }
    held
}

fn hold_one(pid: i32) -> bool {
    let (tell, told) = channel();
    // Who traces is a thread; its end lets them go on, and lets their parent take their exit.
    thread::spawn(move || {
        let threads = threads(pid);
        let held = threads.iter().all(|id| trace(*id));
        if held {
            eventually("they are held", || {
                let mut states = threads.iter().map(|id| stat(*id));
                states.all(|stat| stat[0] == "t").then_some(())
            });
        }
        tell.send(held).unwrap();
        if held {
            eventually("it ends", || (!is_alive(pid)).then_some(()));
        }
    });
    told.recv().unwrap()
}

fn threads(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let names = tasks.map(|task| task.unwrap().file_name());
    names
        .map(|name| name.to_str().unwrap().parse().unwrap())
        .collect()
}

#[expect(unsafe_code, reason = "no safe interface traces")]
fn trace(thread: i32) -> bool {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: neither call reads or writes memory of this process.
    unsafe {
        libc::ptrace(libc::PTRACE_SEIZE, thread, none, none) == 0
            && libc::ptrace(libc::PTRACE_INTERRUPT, thread, none, none) == 0
    }
}

fn an_order_continues_a_supervisor_that_is_stopped() {
    run(async {
        let place = Place::new();
        let script = "trap 'echo bye; exit 7' INT; echo $$ > p1; while :; do sleep 0.05; done";
        let mut process = start(&place.shell(script)).await;
        stop(parent(place.pid("p1")).unwrap());
        process.interrupt();
        let (lines, record) = finish(&mut process).await;
        assert_eq!(lines, [(Stream::Stdout, "bye".to_owned())]);
        assert_eq!((record.exit, record.silence), (Exit::Code(7), None));
    });
}

fn the_next_worker_ends_what_a_stopped_supervisor_has() {
    run(async {
        let place = Place::new();
        let process = start(&place.shell(&format!("{HOSTILE} echo $$ > p0; sleep 1000"))).await;
        let supervisor = parent(place.pid("p0")).unwrap();
        let pids = hostile_pids(&place);
        stop(supervisor);
        drop(process);
        let found = Process::reattach(&place.dir(), Offsets::default()).unwrap();
        let Reattach::Running(mut process) = found else {
            panic!("{found:?}")
        };
        process.kill().await;
        let (_, record) = finish(&mut process).await;
        assert_eq!((&record.exit, record.silence), (&Exit::Signal(9), None));
        assert!(!record.survivors && living(pids).is_empty(), "{record:?}");
    });
}

fn a_supervisor_that_nobody_can_reach_holds_up_no_worker() {
    run(async {
        let place = Place::new();
        let process = start(&place.shell("echo $$ > p1; sleep 1000")).await;
        stop(parent(place.pid("p1")).unwrap());
        drop(process);
        if !fill_the_queue(&place) {
            eprintln!("skipped: more connections may wait than files may be open");
        }
        let found = Process::reattach(&place.dir(), Offsets::default()).unwrap();
        let Reattach::Running(mut process) = found else {
            panic!("{found:?}")
        };
        process.kill().await;
        assert_eq!(finish(&mut process).await.1.exit, Exit::Signal(9));
    });
}

/// Lets as many connections wait for a supervisor as may; false where those are too many.
fn fill_the_queue(place: &Place) -> bool {
    let dir = fs::File::open(place.dir()).unwrap();
    let socket = format!("/proc/self/fd/{}/control.sock", dir.as_raw_fd());
    let socket = SocketAddrUnix::new(socket).unwrap();
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let mut waiting = Vec::new();
    while let Ok(stream) = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None) {
        match connect(&stream, &socket) {
            Ok(()) => waiting.push(stream),
            Err(Errno::AGAIN) => return true,
            Err(error) => panic!("{error}"),
        }
    }
    false
}

fn nothing_survives_a_supervisor_that_stays_stopped() {
    let ways = [
        (Some(self_command()), KillMethod::Cgroup),
        (without_cgroups(), KillMethod::Subreaper),
    ];
    for (command, method) in ways {
        let Some(command) = command else { continue };
        run(async {
            let place = Place::new();
            let spawn = place.shell(&format!("echo hello; {HOSTILE} echo $$ > p0; sleep 1000"));
            let nursery = Nursery::new(command);
            let mut process = Process::start(&nursery, &spawn).await.unwrap();
            let pids = hostile_pids(&place);
            let said = process.next().await.unwrap();
            assert!(
                matches!(&said, ProcessEvent::Line(line) if line.bytes == b"hello"),
                "{said:?}"
            );
            let supervisor = parent(place.pid("p0")).unwrap();
            if !hold(&[supervisor]) {
                return;
            }
            process.kill().await;
            let (lines, record) = finish(&mut process).await;
            assert_eq!((lines, &record.exit), (Vec::new(), &Exit::Unknown));
            assert_eq!(record.silence, Some(Silence::Stopped));
            assert!(!record.survivors, "{record:?}");
            if method == KillMethod::Subreaper {
                assert_eq!(record.kill_method, method);
            }
            let all = pids.into_iter().chain([supervisor]);
            assert!(living(all).is_empty());
        });
    }
}

fn nothing_survives_a_keeper_that_is_stopped_too() {
    let Some(hidden) = without_cgroups() else {
        return;
    };
    run(async {
        let place = Place::new();
        let spawn = place.shell(&format!("{HOSTILE} echo $$ > p0; sleep 1000"));
        let nursery = Nursery::new(hidden);
        let mut process = Process::start(&nursery, &spawn).await.unwrap();
        let pids = hostile_pids(&place);
        let supervisor = parent(place.pid("p0")).unwrap();
        let keeper = parent(supervisor).unwrap();
        if !hold(&[supervisor, keeper]) {
            return;
        }
        process.kill().await;
        let (_, record) = finish(&mut process).await;
        assert_eq!(record.exit, Exit::Unknown);
        assert!(!record.survivors, "{record:?}");
        let all = pids.into_iter().chain([supervisor, keeper]);
        assert!(living(all).is_empty());
    });
}

fn what_is_left_when_all_were_killed_at_once_is_ended_and_no_alarm_where_nothing_is() {
    let Some(hidden) = without_cgroups() else {
        return;
    };
    for cli_too in [true, false] {
        run(async {
            let place = Place::new();
            let script = "setsid sleep 1000 & echo $! > p1; echo $$ > p0; sleep 1000";
            let nursery = Nursery::new(hidden.clone());
            let process = Process::start(&nursery, &place.shell(script)).await;
            drop(process.unwrap());
            let (cli, other) = (place.pid("p0"), place.pid("p1"));
            let supervisor = parent(cli).unwrap();
            let keeper = parent(supervisor).unwrap();
            // The keeper first: it would end the rest.
            for pid in [keeper, supervisor] {
                kill_9(pid);
            }
            if cli_too {
                [cli, other].into_iter().for_each(kill_9);
            }
            // Threads of one that was killed may take a moment to be gone.
            let mut process = eventually("it is lost", || {
                match Process::reattach(&place.dir(), Offsets::default()) {
                    Ok(Reattach::Lost(process)) => Some(process),
                    Ok(Reattach::Running(_) | Reattach::Ended(_)) | Err(_) => None,
                }
            });
            let (_, record) = finish(&mut process).await;
            assert_eq!(record.exit, Exit::Unknown);
            assert!(!record.survivors, "{record:?}");
            assert!(living([cli, other, supervisor, keeper]).is_empty());
        });
    }
}

fn a_keeper_that_its_agent_has_stopped_ends_with_the_rest() {
    let Some(hidden) = without_cgroups() else {
        return;
    };
    // Before a worker hears of the end, and before the next worker does.
    for is_followed in [true, false] {
        run(async {
            let place = Place::new();
            let script = "echo $$ > p0; while ! test -e stopped; do sleep 0.01; done";
            let nursery = Nursery::new(hidden.clone());
            let spawn = place.shell(script);
            let mut process = Process::start(&nursery, &spawn).await.unwrap();
            let supervisor = parent(place.pid("p0")).unwrap();
            let keeper = parent(supervisor).unwrap();
            stop(keeper);
            fs::write(place.tmp.path().join("stopped"), "").unwrap();
            if is_followed {
                let (_, record) = finish(&mut process).await;
                assert_eq!(record.exit, Exit::Code(0));
            } else {
                let exit = place.dir().join("exit.json");
                eventually("it has ended", || exit.exists().then_some(()));
                let found = Process::reattach(&place.dir(), Offsets::default());
                assert!(matches!(found, Ok(Reattach::Ended(_))), "{found:?}");
            }
            eventually("the keeper ends", || (!is_alive(keeper)).then_some(()));
        });
    }
}

fn whose_files_are_gone_is_ended_with_a_stopped_supervisor() {
    run(async {
        let place = Place::new();
        let spawn = place.shell(&format!("{HOSTILE} echo $$ > p0; sleep 1000"));
        let mut process = start(&spawn).await;
        let mut pids = hostile_pids(&place);
        let supervisor = parent(place.pid("p0")).unwrap();
        pids.push(supervisor);
        if !hold(&[supervisor]) {
            return;
        }
        fs::remove_dir_all(place.dir()).unwrap();
        process.end().await;
        assert!(living(pids).is_empty());
    });
}

/// A nursery that has made a supervisor, which has ended, and the pid of it.
async fn used_nursery(place: &Place) -> (Nursery, i32) {
    let nursery = nursery();
    let spawn = place.shell("echo $PPID > p1; while ! [ -e gate ]; do sleep 0.01; done");
    let mut process = Process::start(&nursery, &spawn).await.unwrap();
    let pid = parent(place.pid("p1")).unwrap();
    fs::write(place.tmp.path().join("gate"), "").unwrap();
    assert_eq!(finish(&mut process).await.1.exit, Exit::Code(0));
    (nursery, pid)
}

fn a_stopped_nursery_goes_on() {
    run(async {
        let (first, second) = (Place::new(), Place::new());
        let (nursery, pid) = used_nursery(&first).await;
        stop(pid);
        let spawn = second.shell("echo $PPID > p1; while ! [ -e gate ]; do sleep 0.01; done");
        let mut process = Process::start(&nursery, &spawn).await.unwrap();
        assert_eq!(parent(second.pid("p1")), Some(pid), "it is the same one");
        fs::write(second.tmp.path().join("gate"), "").unwrap();
        assert_eq!(finish(&mut process).await.1.exit, Exit::Code(0));
        stop(pid);
        drop(nursery);
        eventually("it ends with its worker", || (!is_alive(pid)).then_some(()));
    });
}

fn a_nursery_that_stays_stopped_is_replaced() {
    run(async {
        let (first, second) = (Place::new(), Place::new());
        let (nursery, pid) = used_nursery(&first).await;
        if !hold(&[pid]) {
            return;
        }
        let mut spawn = second.shell("read x; echo $x >> ran; cat ran");
        spawn.stdin = b"once\n".to_vec();
        let mut process = Process::start(&nursery, &spawn).await.unwrap();
        let (lines, record) = finish(&mut process).await;
        assert_eq!(lines, [(Stream::Stdout, "once".to_owned())]);
        assert_eq!(record.exit, Exit::Code(0));
        eventually("it is gone", || (!is_alive(pid)).then_some(()));
    });
}
