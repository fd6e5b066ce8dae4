//! A project that has a directory of the name that the shared context has, too.

use std::fs;

use orchestra_repo::{Collect, Collected, mirror_paths};

use crate::common::{Task, World};

fn collect(task: &Task) -> Collected {
    let how = Collect {
        out: &task.out,
        area: task.area(),
        message: "work",
        attempt: 1,
        exclude: &mirror_paths("context"),
        secret: &[],
    };
    task.workspace.collect(&how).unwrap()
}

fn names(collected: &Collected) -> Vec<&str> {
    let entries = collected.manifest.entries.iter();
    entries.map(|entry| entry.path.as_str()).collect()
}

fn start(user: &World) -> Task {
    let checkout = user.checkout().without_mirror("context").unwrap();
    user.start_from(&checkout.snapshot().unwrap())
}

#[test]
fn a_projects_own_directory_goes_to_the_agent_and_comes_back() {
    let user = World::with(&[("context/app.txt", "v1\n")]);
    user.write("context/completed_tasks.json", "PRECIOUS\n");
    let task = start(&user);
    let there = task.dir().join("context/completed_tasks.json");
    assert_eq!(fs::read_to_string(there).unwrap(), "PRECIOUS\n");

    task.write("context/app.txt", "v2\n");
    task.write("context/current_state.md", "new\n");
    let collected = collect(&task);
    assert_eq!(
        names(&collected),
        ["context/app.txt", "context/current_state.md"]
    );
    assert!(collected.manifest.warnings.is_empty());
}

#[test]
fn our_directory_stays_at_home_and_an_agents_files_are_told_apart() {
    let user = World::with(&[("a.txt", "one\n")]);
    user.write("context/current_state.md", "ours\n");
    let task = start(&user);
    assert!(!task.dir().join("context").exists());

    task.write("context/app.txt", "new\n");
    task.write("context/current_state.md", "no result\n");
    let collected = collect(&task);
    assert_eq!(names(&collected), ["context/app.txt"]);
    let warnings = &collected.manifest.warnings;
    assert!(
        warnings[0].contains("`context/current_state.md` was left out"),
        "{warnings:?}"
    );
}
