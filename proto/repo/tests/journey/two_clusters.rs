//! Two clusters on one repository: both have a task 1, and so a branch of the same name.

use std::{sync::Barrier, thread};

use crate::{
    attempts::{attempt, put},
    common::{BRANCH, Done, LINES, World, apply, git, import_branch, lines},
};
use orchestra_repo::{ApplyError, Error};

/// What the task 1 of each of them left.
fn both(user: &World) -> [Done; 2] {
    [1, 2].map(|number| {
        let task = user.start_after(&user.checkout().snapshot().unwrap(), 1, &[]);
        task.write("f", &lines(&[(5, &format!("of {number}"))]));
        task.write(&format!("{number}"), "new\n");
        let done = attempt(user, &task, number);
        std::fs::remove_dir_all(task.dir()).unwrap();
        std::fs::remove_dir_all(task.area().join("own")).unwrap();
        done
    })
}

fn own(done: &Done) -> Vec<String> {
    vec![done.commit.clone()]
}

#[test]
fn the_branch_of_the_other_one_stays_and_its_change_is_called_the_others() {
    let user = World::with(&[("f", LINES)]);
    let [one, two] = both(&user);
    put(&user, &one, &own(&one)).unwrap();
    let refused = import_branch(&user.checkout(), &two.change(&[]), &own(&two)).unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("commits that are not of this task"), "{said}");
    assert_eq!(git(&user.user(), &["rev-parse", BRANCH]), one.commit);
    let refused = apply(&user.checkout(), &two.change(&[])).unwrap_err();
    let said = refused.to_string();
    let ApplyError::Conflict { makers, .. } = refused else {
        panic!("{said}");
    };
    assert_eq!(makers, ["another cluster's task_001"], "{said}");
}

#[test]
fn of_two_that_make_the_branch_at_the_same_time_one_does() {
    let user = World::with(&[("f", LINES)]);
    let dones = both(&user);
    for _ in 0..5 {
        let start = Barrier::new(2);
        let results: Vec<_> = thread::scope(|scope| {
            let threads = dones.each_ref().map(|done| {
                scope.spawn(|| {
                    start.wait();
                    import_branch(&user.checkout(), &done.change(&[]), &own(done))
                })
            });
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let tip = git(&user.user(), &["rev-parse", BRANCH]);
        for (done, result) in dones.iter().zip(&results) {
            match result {
                Ok(()) => assert_eq!(tip, done.commit, "it was written over"),
                Err(Error::BranchMoved { .. }) => assert_ne!(tip, done.commit),
                Err(error) => panic!("{error}"),
            }
        }
        git(&user.user(), &["branch", "-q", "-D", BRANCH]);
    }
}
