//! What outlives a worker, and what a late supervisor does.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use orchestra_types::Exit;
use orchestra_worker::process::{
    LOG_BYTES_MAX, Limits, Nursery, Offsets, Process, ProcessEvent, Reattach, Spawn,
};

use crate::{
    Test,
    support::{Place, alone, eventually, finish, is_alive, only_that_ran, run, start, start_again},
};

pub const TESTS: &[Test] = tests![
    a_killed_worker_costs_no_byte,
    a_supervisor_that_comes_late_starts_nothing,
];

/// A worker that prints what it reads, until it is killed.
pub fn worker(dir: &Path) -> ExitCode {
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
        ballast: PathBuf::new(),
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
        let again = start_again(&place).await;
        fs::write(place.tmp.path().join("gate"), "").unwrap();
        eventually("it gives up", || (!is_alive(supervisor)).then_some(()));
        let log = fs::read_to_string(place.tmp.path().join("log")).unwrap();
        assert!(log.contains("spawn.json"), "{log}");
        only_that_ran(&place, again).await;
    });
}
