//! What a worker says that it holds.

use orchestra_types::TaskId;

use super::*;
use crate::process;

#[test]
fn only_what_runs_now_has_run_for_a_time() {
    let attempts = tempfile::tempdir().unwrap();
    let attempt = |task| AttemptId {
        task: TaskId(task),
        number: 1,
    };
    let long = Some(Duration::from_secs(5));
    let held = |task, running| Held {
        attempt: attempt(task),
        started: true,
        running,
    };
    let process_dir = |task| {
        let dir = attempts.path().join(attempt(task).to_string());
        let dir = dir.join("process");
        fs::create_dir_all(&dir).unwrap();
        dir
    };
    process::note_this_as_running(&process_dir(1)).unwrap();
    // It has ended, and its owner has not looked since.
    let ended = process_dir(2);
    process::note_this_as_running(&ended).unwrap();
    fs::write(ended.join("exit.json"), "{}").unwrap();
    // Nothing is known of it.
    process_dir(3);
    // It runs, and its owner does not say since when.
    process::note_this_as_running(&process_dir(4)).unwrap();
    let looked = looked_for(
        vec![held(1, long), held(2, long), held(3, long), held(4, None)],
        attempts.path(),
    );
    assert_eq!(
        looked,
        [held(1, long), held(2, None), held(3, None), held(4, None)]
    );
}
