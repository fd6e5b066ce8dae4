//! What a restore refuses, and what it leaves.

use std::{
    fs,
    path::{Path, PathBuf},
};

use orchestra_config::StateDir;
use rustix::fs::{CWD, FileType, Mode};

use super::{
    super::{Error, Options, restore},
    PLAIN, World, of, restored, task,
};
use crate::progress::{self, Progress};

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_not_whole_is_refused_before_anything_is_written() {
    let world = World::new();
    world.submit("k", vec![task("a"), task("b")]).await;
    let file = world.dir.path().join("backup");
    let summary = world.back_up(&file).await;
    world.engine.handle.stop().await.unwrap();
    let whole = fs::read(&file).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let bad = dir.path().join("bad");
    let refused = |bytes: &[u8], what: &str| {
        fs::write(&bad, bytes).unwrap();
        let state = dir.path().join("state");
        let refused = restore(
            &StateDir::new(&state),
            &of(&bad),
            PLAIN,
            &Progress::unwatched(),
        );
        assert!(
            matches!(
                refused,
                Err(Error::Damaged { .. } | Error::Foreign { .. } | Error::Newer { .. })
            ),
            "{what}: {refused:?}"
        );
        assert!(!state.exists(), "{what}");
    };
    let before_end = usize::try_from(summary.bytes).unwrap();
    for at in 0..before_end {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        refused(&flipped, &format!("bit in byte {at}"));
    }
    for length in [0, 100, 512, before_end / 2, before_end, before_end + 100] {
        refused(&whole[..length], &format!("cut to {length}"));
    }
    refused(b"something else", "no backup");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_never_overwrites_and_moves_aside_only_when_told() {
    let world = World::new();
    world.submit("k", vec![task("a")]).await;
    let file = world.dir.path().join("backup");
    world.back_up(&file).await;
    let (dir, _) = restored(&file, PLAIN);
    let state = StateDir::new(dir.path());
    let refused = restore(&state, &of(&file), PLAIN, &Progress::unwatched());
    assert!(
        matches!(refused, Err(Error::NotEmpty { .. })),
        "{refused:?}"
    );
    let force = Options {
        force: true,
        ..PLAIN
    };
    let port = state.head().join("port");
    std::fs::write(&port, "39873\n").unwrap();
    let done = restore(&state, &of(&file), force, &Progress::unwatched()).unwrap();
    let aside = done.aside.unwrap();
    assert!(aside.join("db").is_dir() && state.head().join("db").is_dir());
    assert!(done.port_kept);
    let kept = std::fs::read_to_string(&port).unwrap();
    assert_eq!(kept, "39873\n", "workers that joined find it there");

    let lock = crate::lock::Lock::take(&state.head()).unwrap();
    let refused = restore(&state, &of(&file), force, &Progress::unwatched());
    assert!(matches!(refused, Err(Error::Running(_))), "{refused:?}");
    drop(lock);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_restored_from_a_pipe_and_refused_from_one_that_ends_early() {
    let world = World::new();
    world.submit("k", vec![task("a"), task("b")]).await;
    let file = world.dir.path().join("backup");
    world.back_up(&file).await;
    let whole = fs::read(&file).unwrap();
    let pipe = pipe_in(world.dir.path());
    let piped = |length: usize, state: &Path| {
        let (bytes, to) = (whole[..length].to_vec(), pipe.clone());
        let writing = std::thread::spawn(move || fs::write(to, bytes));
        let done = restore(
            &StateDir::new(state),
            &of(&pipe),
            PLAIN,
            &Progress::unwatched(),
        );
        writing.join().unwrap().unwrap();
        done
    };
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("a/state");
    for length in [0, 1600, whole.len() / 2] {
        let refused = piped(length, &state).unwrap_err();
        let is_cut = matches!(refused, Error::Damaged { .. });
        let is_other = matches!(refused, Error::Foreign { .. });
        assert_eq!((is_cut, is_other), (length > 0, length == 0), "{refused}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    assert_eq!(piped(whole.len(), &state).unwrap().tasks, 2);
    // Nothing is left of what came through the pipe.
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    world.end().await;
}

/// A pipe with a name.
fn pipe_in(dir: &Path) -> PathBuf {
    let pipe = dir.join("pipe");
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, mode, 0).unwrap();
    pipe
}

#[test]
fn a_pipe_that_nobody_writes_to_holds_up_nobody_who_has_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = pipe_in(dir.path());
    let (progress, reached) = Progress::watched();
    drop(reached);
    let state = StateDir::new(dir.path().join("state"));
    let given_up = restore(&state, &of(&pipe), PLAIN, &progress).unwrap_err();
    let Error::Failed(error) = given_up else {
        panic!("{given_up}");
    };
    assert!(progress::is_cancelled(&error), "{error:#}");
    assert!(!state.path().exists());
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("newer");
    let mut tar = tar::Builder::new(fs::File::create(&path).unwrap());
    let json = br#"{"format":99,"everything":"else"}"#;
    let mut header = tar::Header::new_gnu();
    header.set_size(json.len() as u64);
    tar.append_data(&mut header, "backup.json", json.as_slice())
        .unwrap();
    tar.finish().unwrap();
    let refused = restore(
        &StateDir::new(dir.path().join("state")),
        &of(&path),
        PLAIN,
        &Progress::unwatched(),
    );
    assert!(
        matches!(refused, Err(Error::Newer { found: 99 })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_nobody_waits_for_any_more_leaves_nothing() {
    let world = World::new();
    world.submit("k", vec![task(&"x".repeat(100_000))]).await;
    let file = world.dir.path().join("backup");
    world.back_up(&file).await;
    let length = fs::metadata(&file).unwrap().len();
    // Before the first byte, while it is verified, and while it is put in place.
    for after in [0, length / 2, length + length / 2] {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        let (progress, reached) = Progress::watched();
        let waiting = std::thread::spawn(move || {
            while reached.borrow().done < after && reached.has_changed().is_ok() {
                std::thread::yield_now();
            }
        });
        if after == 0 {
            waiting.join().unwrap();
            let given_up = restore(&state, &of(&file), PLAIN, &progress).unwrap_err();
            let Error::Failed(error) = given_up else {
                panic!("{given_up}");
            };
            assert!(progress::is_cancelled(&error), "{error:#}");
        } else {
            // It may be over before the other thread goes; then it is whole.
            let done = restore(&state, &of(&file), PLAIN, &progress);
            drop(progress);
            waiting.join().unwrap();
            assert_eq!(done.is_ok(), state.head().join("db").exists(), "{done:?}");
        }
        assert!(!dir.path().join("head.restoring").exists());
    }
    world.end().await;
}
