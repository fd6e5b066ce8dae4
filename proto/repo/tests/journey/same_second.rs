//! An edit in the second in which the index was written: size and time alone do not tell it.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use crate::common::{World, apply, git};
use orchestra_repo::ApplyError;

const BEFORE: &str = "one\n";
const AFTER: &str = "two\n";

fn date(path: &Path) {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(at).unwrap();
}

/// A file that is edited right after its commit, to the same length.
fn edited_at_once() -> World {
    let user = World::with(&[("other.txt", "x\n")]);
    // Nobody can set the other time of a file.
    git(&user.user(), &["config", "core.trustctime", "false"]);
    let file = user.user().join("a.txt");
    fs::write(&file, BEFORE).unwrap();
    date(&file);
    user.commit("second");
    date(&user.user().join(".git/index"));
    fs::write(&file, AFTER).unwrap();
    date(&file);
    assert_eq!(git(&user.user(), &["diff", "--name-only"]), "a.txt");
    date(&user.user().join(".git/index"));
    user
}

#[test]
fn a_snapshot_has_it() {
    let user = edited_at_once();
    let task = user.start();
    assert_eq!(fs::read_to_string(task.dir().join("a.txt")).unwrap(), AFTER);
}

#[test]
fn no_change_goes_over_it() {
    let user = edited_at_once();
    let file = user.user().join("a.txt");
    fs::write(&file, BEFORE).unwrap();
    let task = user.start();
    task.write("a.txt", "six\n");
    let collected = task.collect();
    fs::write(&file, AFTER).unwrap();
    date(&file);
    date(&user.user().join(".git/index"));
    let refused = apply(&user.checkout(), &task.change(&collected)).unwrap_err();
    assert!(
        matches!(refused, ApplyError::InTheWay { .. }),
        "{refused:?}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), AFTER);
}
