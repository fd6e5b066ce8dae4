//! What a worker sees of a CLI and sends to it.

use std::{fs, process::Command};

use orchestra_types::Exit;
use orchestra_worker::process::{Offsets, Process, ProcessEvent, Reattach, Spawn, Stream};

use crate::{
    Test,
    support::{Place, finish, run, start},
};

pub const TESTS: &[Test] = tests![
    output_comes_line_by_line_and_then_the_end,
    input_arrives_whole_and_in_order,
    a_missing_program_is_named,
    a_missing_directory_is_named,
    a_line_without_end_costs_bounded_memory,
    a_cli_that_does_not_read_can_still_be_stopped,
];

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
