//! Removing outputs: only what we wrote, and never what somebody else may want.

use std::{fs, time::SystemTime};

use super::{super::copies::BATCH_MAX, *};

fn name(number: u64) -> String {
    format!("{OUTPUTS}/task_{number:03}_output.md")
}

/// One in which these tasks have ended.
fn with_tasks(numbers: impl IntoIterator<Item = u64>) -> World {
    let world = world();
    for number in numbers {
        world.store.record(&world.task(number)).unwrap();
    }
    world
}

fn remove(world: &World, numbers: &[u64]) {
    let tasks: Vec<TaskId> = numbers.iter().map(|number| TaskId(*number)).collect();
    let gone = world.store.remove_outputs(&world.id, &tasks).unwrap();
    assert_eq!((gone.tasks, gone.full), (tasks, false));
    world.store.remove_copies(&world.id).unwrap();
}

/// What is noted of copies that are still there.
fn noted(world: &World) -> Vec<String> {
    let note: serde_json::Value =
        serde_json::from_str(&read_own(world.own("copies.json"))).unwrap();
    let note = note.as_array().unwrap().iter();
    note.map(|copy| copy["name"].as_str().unwrap().to_owned())
        .collect()
}

/// What the list says of the output of each task.
fn listed(text: &str) -> Vec<String> {
    let list: serde_json::Value = serde_json::from_str(text).unwrap();
    let list = list.as_array().unwrap().iter();
    list.map(|task| task["output"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn an_output_goes_from_the_list_the_mirror_and_the_head() {
    let world = with_tasks(1..=3);
    assert_eq!(
        world.store.projects().unwrap().as_slice(),
        std::slice::from_ref(&world.id)
    );
    remove(&world, &[1, 2]);
    for number in [1, 2] {
        assert!(!world.mirror(&name(number)).exists());
        assert!(!world.own(&name(number)).exists());
    }
    assert_eq!(
        read(world.mirror(&name(3))),
        read_own(world.own(&name(3))),
        "the newest stays"
    );
    let list = read_own(world.own(COMPLETED));
    assert_eq!(listed(&list), ["", "", &name(3)]);
    assert_eq!(read(world.mirror(COMPLETED)), list);
    // Another head, and a task that is recorded later.
    opened(world.dir.path()).record(&world.task(4)).unwrap();
    let list = read_own(world.own(COMPLETED));
    assert_eq!(listed(&list), ["", "", &name(3), &name(4)]);
}

#[test]
fn a_crash_in_between_is_gone_on_from() {
    let world = with_tasks(1..=2);
    fs::remove_file(world.mirror(&name(1))).unwrap();
    remove(&world, &[1]);
    assert!(!world.own(&name(1)).exists());
    remove(&world, &[1, 2]);
    assert!(!world.own(&name(2)).exists() && !world.mirror(&name(2)).exists());

    // Between the removal here and that in the mirror.
    let world = with_tasks(1..=2);
    world.store.remove_outputs(&world.id, &[TaskId(1)]).unwrap();
    assert!(!world.own(&name(1)).exists() && world.mirror(&name(1)).exists());
    let store = opened(world.dir.path());
    store.remove_copies(&world.id).unwrap();
    assert!(!world.mirror(&name(1)).exists() && world.mirror(&name(2)).exists());
    assert_eq!(
        read(world.mirror(COMPLETED)),
        read_own(world.own(COMPLETED))
    );
    assert_eq!(noted(&world), [""; 0]);
}

#[test]
fn a_copy_that_cannot_be_removed_is_tried_again_as_long_as_it_is_ours() {
    let world = with_tasks(1..=3);
    let git = world.project().join(".git");
    fs::write(&git, "gitdir: /nowhere/at/all\n").unwrap();
    remove(&world, &[1, 2, 3]);
    let file = |number: u64| format!("task_{number:03}_output.md");
    for number in 1..=3 {
        assert!(!world.own(&name(number)).exists() && world.mirror(&name(number)).exists());
    }
    assert_eq!(noted(&world), [file(1), file(2), file(3)]);
    fs::write(world.mirror(&name(1)), "mine\n").unwrap();
    fs::remove_file(world.mirror(&name(2))).unwrap();
    // Something has the name that it is hidden under, and no place to go to.
    let hidden = world.mirror(OUTPUTS).join(format!(".{}.going", file(3)));
    fs::write(&hidden, "mine\n").unwrap();
    let beside = |number: u64| world.mirror(&format!("{OUTPUTS}/task_003-{number}_output.md"));
    for number in 1..=9 {
        fs::write(beside(number), "mine\n").unwrap();
    }
    let store = opened(world.dir.path());
    store.remove_copies(&world.id).unwrap();
    assert_eq!(noted(&world), [file(1), file(3)], "one is gone");
    fs::remove_file(&git).unwrap();
    store.remove_copies(&world.id).unwrap();
    assert_eq!(read(world.mirror(&name(1))), "mine\n");
    assert_eq!(noted(&world), [file(3)], "one is not ours");
    fs::remove_file(beside(9)).unwrap();
    store.remove_copies(&world.id).unwrap();
    assert!(!world.mirror(&name(3)).exists() && !hidden.exists());
    assert_eq!(read(beside(9)), "mine\n");
    assert_eq!(noted(&world), [""; 0]);
    // What has been put beside it makes the mirror nobody else's.
    store.record(&world.task(4)).unwrap();
    assert!(world.mirror(&name(4)).exists());
}

/// As a crash leaves a copy that was to be looked at.
fn hide(world: &World, number: u64) -> std::path::PathBuf {
    let hidden = format!(".task_{number:03}_output.md.going");
    let hidden = world.mirror(OUTPUTS).join(hidden);
    fs::rename(world.mirror(&name(number)), &hidden).unwrap();
    hidden
}

#[test]
fn what_a_crash_left_hidden_is_not_forgotten_where_git_does_not_answer() {
    let world = with_tasks(1..=2);
    go(&world, 1..=2);
    let hidden = [1, 2].map(|number| hide(&world, number));
    fs::write(&hidden[1], "mine\n").unwrap();
    let git = world.project().join(".git");
    fs::write(&git, "gitdir: /nowhere/at/all\n").unwrap();
    assert!(!world.store.remove_copies(&world.id).unwrap());
    assert_eq!(noted(&world).len(), 2);
    fs::remove_file(&git).unwrap();
    assert!(world.store.remove_copies(&world.id).unwrap());
    assert!(!hidden[0].exists() && !world.mirror(&name(1)).exists());
    assert_eq!(read(world.mirror(&name(2))), "mine\n");
    assert!(!hidden[1].exists());
}

#[test]
fn what_a_crash_left_hidden_comes_back_where_it_is_wanted() {
    let world = with_tasks(1..=2);
    let texts = [1, 2].map(|number| fs::read(world.own(&name(number))).unwrap());
    go(&world, 1..=2);
    for number in [1, 2] {
        fs::write(world.own(&name(number)), &texts[number as usize - 1]).unwrap();
    }
    let copy = read(world.mirror(&name(1)));
    let hidden = [1, 2].map(|number| hide(&world, number));
    // This one was written anew.
    fs::write(world.mirror(&name(2)), "new\n").unwrap();
    assert!(world.store.remove_copies(&world.id).unwrap());
    assert_eq!(read(world.mirror(&name(1))), copy);
    assert_eq!(read(world.mirror(&name(2))), "new\n");
    assert_eq!(hidden.map(|hidden| hidden.exists()), [false; 2]);
    assert_eq!(world.mirror(OUTPUTS).read_dir().unwrap().count(), 2);

    // And where the directory has another project by now.
    let world = with_tasks(1..=1);
    go(&world, [1]);
    let copy = read(world.mirror(&name(1)));
    let hidden = hide(&world, 1);
    let another: ProjectId = "another".parse().unwrap();
    fs::rename(world.own(""), world.own("").with_file_name("another")).unwrap();
    let store = opened(world.dir.path());
    assert!(store.remove_copies(&another).unwrap());
    assert_eq!(read(world.mirror(&name(1))), copy);
    assert!(!hidden.exists());
}

#[test]
fn a_copy_stays_while_nobody_can_say_whether_its_output_is_gone() {
    let world = with_tasks(1..=1);
    let text = fs::read(world.own(&name(1))).unwrap();
    go(&world, [1]);
    fs::write(world.own(&name(1)), text).unwrap();
    // Something is in the way, as where a disk cannot be read.
    let away = world.own("away");
    fs::rename(world.own(OUTPUTS), &away).unwrap();
    fs::write(world.own(OUTPUTS), "x").unwrap();
    assert!(!world.store.remove_copies(&world.id).unwrap());
    assert!(world.mirror(&name(1)).exists());
    assert_eq!(noted(&world).len(), 1);
    fs::remove_file(world.own(OUTPUTS)).unwrap();
    fs::rename(&away, world.own(OUTPUTS)).unwrap();
    assert!(world.store.remove_copies(&world.id).unwrap());
    assert!(world.mirror(&name(1)).exists());
}

/// What goes of these, and whether there was no room for more.
fn go(world: &World, numbers: impl IntoIterator<Item = u64>) -> (Vec<u64>, bool) {
    let tasks: Vec<TaskId> = numbers.into_iter().map(TaskId).collect();
    let gone = world.store.remove_outputs(&world.id, &tasks).unwrap();
    (gone.tasks.iter().map(|task| task.0).collect(), gone.full)
}

/// One in which these tasks have ended, and two copies are noted at most.
fn noting_two(numbers: impl IntoIterator<Item = u64>) -> World {
    let mut world = with_tasks(numbers);
    world.store = opened(world.dir.path()).noting_at_most(2);
    world
}

#[test]
fn no_more_go_than_there_is_room_for_in_the_note() {
    let world = noting_two(1..=5);
    assert_eq!(go(&world, 1..=5), (vec![1, 2], true));
    assert_eq!(go(&world, 3..=5), (vec![], true), "none was tried");
    assert!(world.own(&name(3)).exists());
    assert_eq!(noted(&world).len(), 2);
    assert!(world.store.remove_copies(&world.id).unwrap());
    assert_eq!(go(&world, 3..=5), (vec![3, 4], true));
    assert!(world.store.remove_copies(&world.id).unwrap());
    assert_eq!(go(&world, [5]), (vec![5], false));
    assert!(world.store.remove_copies(&world.id).unwrap());
    for number in 1..=5 {
        assert!(!world.own(&name(number)).exists() && !world.mirror(&name(number)).exists());
    }
    // One that needs more than there is goes by itself.
    let mut world = with_tasks(1..=2);
    world.store = opened(world.dir.path()).noting_at_most(0);
    assert_eq!(go(&world, 1..=2), (vec![1], true));
    assert_eq!(noted(&world).len(), 1);
}

#[test]
fn more_copies_than_a_batch_has_go_one_that_cannot_stays() {
    let numbers = 1..=BATCH_MAX as u64 + 2;
    let world = with_tasks(numbers.clone());
    assert!(!go(&world, numbers.clone()).1);
    // It is looked at under this name, and has no place.
    let hidden = world.mirror(OUTPUTS).join(".task_001_output.md.going");
    fs::create_dir(&hidden).unwrap();
    for number in 1..=9 {
        let beside = format!("{OUTPUTS}/task_001-{number}_output.md");
        fs::write(world.mirror(&beside), "mine\n").unwrap();
    }
    assert!(!world.store.remove_copies(&world.id).unwrap());
    assert_eq!(noted(&world), ["task_001_output.md"]);
    let there = numbers.filter(|number| world.mirror(&name(*number)).exists());
    assert_eq!(there.collect::<Vec<_>>(), [1]);
    fs::remove_dir(&hidden).unwrap();
    assert!(world.store.remove_copies(&world.id).unwrap());
}

#[test]
fn only_what_was_tried_is_given_up_the_oldest_first() {
    let world = noting_two(1..=5);
    let git = world.project().join(".git");
    fs::write(&git, "gitdir: /nowhere/at/all\n").unwrap();
    assert_eq!(go(&world, 1..=2), (vec![1, 2], false));
    assert!(!world.store.remove_copies(&world.id).unwrap());
    let file = |number: u64| format!("task_{number:03}_output.md");
    assert_eq!(noted(&world), [file(1), file(2)]);
    assert_eq!(go(&world, [3]), (vec![3], false));
    assert_eq!(noted(&world), [file(2), file(3)]);
    assert_eq!(go(&world, 4..=5), (vec![4], true));
    assert_eq!(noted(&world), [file(3), file(4)]);
    fs::remove_file(&git).unwrap();
    assert!(world.store.remove_copies(&world.id).unwrap());
    let there = (1..=5).filter(|number| world.mirror(&name(*number)).exists());
    assert_eq!(there.collect::<Vec<_>>(), [1, 2, 5]);
}

#[test]
fn an_output_that_is_there_again_keeps_its_copy() {
    let world = with_tasks(1..=1);
    let text = fs::read(world.own(&name(1))).unwrap();
    world.store.remove_outputs(&world.id, &[TaskId(1)]).unwrap();
    // As out of a backup.
    fs::write(world.own(&name(1)), text).unwrap();
    world.store.remove_copies(&world.id).unwrap();
    assert!(world.mirror(&name(1)).exists());
    assert_eq!(noted(&world), [""; 0]);
}

#[test]
fn where_the_context_is_off_no_project_is_touched() {
    let world = with_tasks(1..=2);
    let list = read(world.mirror(COMPLETED));
    let config = ContextConfig {
        enabled: false,
        ..ContextConfig::default()
    };
    let off = opened_with(world.dir.path(), config);
    off.remove_outputs(&world.id, &[TaskId(1)]).unwrap();
    off.remove_copies(&world.id).unwrap();
    assert!(!world.own(&name(1)).exists() && world.mirror(&name(1)).exists());
    assert_eq!(read(world.mirror(COMPLETED)), list);
    // On again.
    let on = opened(world.dir.path());
    on.remove_copies(&world.id).unwrap();
    assert!(!world.mirror(&name(1)).exists());
    assert_eq!(listed(&read(world.mirror(COMPLETED))), ["", &name(2)]);
}

#[test]
fn one_that_cannot_be_read_stays_with_its_copy() {
    let world = with_tasks(1..=2);
    let file = fs::File::options().append(true).open(world.own(&name(1)));
    file.unwrap().set_len(9 * OUTPUT_BYTES_MAX as u64).unwrap();
    let tasks = [TaskId(1), TaskId(2)];
    let gone = world.store.remove_outputs(&world.id, &tasks).unwrap();
    world.store.remove_copies(&world.id).unwrap();
    assert_eq!(gone.tasks, [TaskId(2)]);
    assert!(world.own(&name(1)).exists() && world.mirror(&name(1)).exists());
    assert_eq!(listed(&read_own(world.own(COMPLETED))), [&name(1), ""]);
    assert!(!world.mirror(&name(2)).exists());
}

#[test]
fn what_a_person_has_changed_put_there_or_taken_away_stays_so() {
    let world = with_tasks(1..=3);
    let mine = "# Mine now\n";
    fs::write(world.mirror(&name(1)), mine).unwrap();
    fs::write(world.mirror(&name(9)), mine).unwrap();
    let large = vec![b'x'; 3 * OUTPUT_BYTES_MAX];
    fs::write(world.mirror(&name(2)), &large).unwrap();
    remove(&world, &[1, 2, 3, 9]);
    assert_eq!(read(world.mirror(&name(1))), mine);
    assert_eq!(read(world.mirror(&name(9))), mine);
    assert_eq!(fs::read(world.mirror(&name(2))).unwrap(), large);
    assert!(!world.mirror(&name(3)).exists());
    assert!(!world.own(&name(1)).exists());

    let world = with_tasks(1..=1);
    fs::remove_dir_all(world.mirror("")).unwrap();
    remove(&world, &[1]);
    assert!(!world.mirror("").exists(), "nobody asked for it");
}

#[test]
fn a_mirror_under_version_control_is_left_alone() {
    let world = world();
    world.git(&["init", "-q"]);
    world.store.record(&world.task(1)).unwrap();
    world.git(&["add", "--force", &format!("context/{}", name(1))]);
    remove(&world, &[1]);
    assert!(world.mirror(&name(1)).exists());
    assert!(!world.own(&name(1)).exists());
}

#[test]
fn a_directory_that_has_another_project_now_loses_nothing() {
    let world = with_tasks(1..=1);
    let another: ProjectId = "another".parse().unwrap();
    let moved = world.own("").with_file_name("another");
    fs::rename(world.own(""), &moved).unwrap();
    let store = opened(world.dir.path());
    store.remove_outputs(&another, &[TaskId(1)]).unwrap();
    store.remove_copies(&another).unwrap();
    assert!(world.mirror(&name(1)).exists());
    assert!(!moved.join(name(1)).exists());
}

#[test]
fn nothing_is_removed_through_a_link() {
    // The directory of outputs, the mirror, and a file.
    let links = [OUTPUTS.to_owned(), String::new(), name(1)];
    for link in links {
        let world = with_tasks(1..=1);
        let elsewhere = world.dir.path().join("elsewhere");
        fs::rename(world.mirror(&link), &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, world.mirror(&link)).unwrap();
        let seen = || fs::read(world.mirror(&name(1))).unwrap();
        let before = seen();
        remove(&world, &[1]);
        assert_eq!(seen(), before, "link {link:?}");
    }
}

#[test]
fn a_damaged_one_goes_and_its_copy_with_it() {
    let world = with_tasks(1..=3);
    let damaged = |at: fn(usize) -> usize, number| {
        let path = world.own(&name(number));
        let length = fs::read(&path).unwrap().len();
        flip(&path, at(length));
    };
    // The text, or what the first line says of it.
    damaged(|length| length - 2, 1);
    damaged(|_| 30, 2);
    // Of this one nobody knows what was written.
    damaged(|length| length - 2, 3);
    damaged(|_| 30, 3);
    remove(&world, &[1, 2, 3]);
    for (number, stays) in [(1, false), (2, false), (3, true)] {
        assert!(!world.own(&name(number)).exists());
        assert_eq!(world.mirror(&name(number)).exists(), stays, "{number}");
    }
    assert_eq!(noted(&world), [""; 0]);
}

#[test]
fn only_outputs_are_due_those_of_the_oldest_tasks_first() {
    let world = with_tasks(1..=4);
    fs::write(world.own(OUTPUTS).join("task_7_output.md"), "x").unwrap();
    fs::write(world.own(OUTPUTS).join("notes.md"), "x").unwrap();
    let written = |number, days: u64| {
        let file = fs::File::open(world.own(&name(number))).unwrap();
        let day = Duration::from_secs(24 * 3600);
        let at = SystemTime::now() - day * u32::try_from(days).unwrap();
        file.set_modified(at).unwrap();
        at
    };
    let (old, _) = (written(1, 9), written(2, 5));
    let due = |max, since| {
        let due = world.store.due_outputs(&world.id, &Keep { max, since });
        let due = due
            .unwrap()
            .into_iter()
            .inspect(|due| assert!(due.bytes > 100));
        due.map(|due| due.task.0).collect::<Vec<_>>()
    };
    assert_eq!(due(9, None), [0; 0]);
    assert_eq!(due(2, None), [1, 2]);
    assert_eq!(due(9, Some(old + Duration::from_secs(3600))), [1]);
    assert_eq!(due(0, None), [1, 2, 3, 4]);
    // Written while the clock was ahead: it is old by its number all the same, and not by its age.
    let file = fs::File::open(world.own(&name(1))).unwrap();
    let ahead = SystemTime::now() + Duration::from_secs(1_000_000);
    file.set_modified(ahead).unwrap();
    assert_eq!(due(2, None), [1, 2]);
    assert_eq!(due(9, Some(old + Duration::from_secs(3600))), [0; 0]);
}
