//! Changes that are applied one upon the other, with no commit between.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use crate::common::{Done, LINES, Task, World, apply, git, import_branch, lines};
use orchestra_repo::{Applied, ApplyError, Checkout, Received, apply_if};

type Put = Result<Applied, ApplyError>;

fn read(user: &World, name: &str) -> String {
    fs::read_to_string(user.user().join(name)).unwrap()
}

/// A task that began before any of the others was applied.
fn task(user: &World, number: u64) -> Task {
    user.start_after(&user.checkout().snapshot().unwrap(), number, &[])
}

/// One that writes one file.
fn writes(user: &World, number: u64, file: &str, text: &str) -> Done {
    let task = task(user, number);
    task.write(file, text);
    task.done()
}

/// Tasks that each change another line of f.
fn side_by_side(user: &World) -> [Done; 3] {
    let line = |number, at, text| writes(user, number, "f", &lines(&[(at, text)]));
    [line(1, 1, "one"), line(2, 5, "five"), line(3, 9, "nine")]
}

/// As `ctl apply` does it: with its branch.
fn put(user: &World, done: &Done) -> Put {
    let applied = done.apply(user, &[])?;
    import_branch(&user.checkout(), &done.change(&[]), &[]).unwrap();
    Ok(applied)
}

fn all(user: &World, dones: &[Done]) {
    for done in dones {
        put(user, done).unwrap();
    }
}

/// The files that the user's own edits keep from being written.
fn in_the_way(put: Put) -> Vec<String> {
    match put {
        Err(ApplyError::InTheWay { paths }) => paths,
        other => panic!("{other:?}"),
    }
}

/// The files in conflict, and with which tasks.
fn conflict(put: Put) -> (Vec<String>, Vec<String>) {
    match put {
        Err(ApplyError::Conflict { paths, makers, .. }) => (paths, makers),
        other => panic!("{other:?}"),
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_the_index_lacks_is_told_for_gits_diff_does_not_show_it() {
    let user = World::with(&[("f", LINES)]);
    let tracked = writes(&user, 1, "f", &lines(&[(1, "one")]));
    assert!(!put(&user, &tracked).unwrap().unknown);
    let new = writes(&user, 2, "new", "new\n");
    assert!(put(&user, &new).unwrap().unknown);
    let edited = writes(&user, 3, "new", "new\nedited\n");
    assert!(put(&user, &edited).unwrap().unknown, "it came before");
    git(&user.user(), &["add", "-N", "new"]);
    let again = writes(&user, 4, "new", "new\nedited\nagain\n");
    assert!(!put(&user, &again).unwrap().unknown);
}

#[test]
fn tasks_that_ran_side_by_side_are_applied_one_upon_the_other() {
    let user = World::with(&[("f", LINES), ("other", "x\n")]);
    user.write("other", "mine, not committed\n");
    let [first, second, third] = side_by_side(&user);
    assert_eq!(put(&user, &first).unwrap().files, 1);
    assert_eq!(put(&user, &second).unwrap().files, 1);
    let both = lines(&[(1, "one"), (5, "five")]);
    assert_eq!(read(&user, "f"), both);
    put(&user, &third).unwrap();
    let whole = lines(&[(1, "one"), (5, "five"), (9, "nine")]);
    assert_eq!(read(&user, "f"), whole);
    assert_eq!(read(&user, "other"), "mine, not committed\n");
    // Again is no error, whichever it is.
    assert!(put(&user, &first).unwrap().already);
    // The last one is taken back: what is there is what the two before left.
    user.write("f", &both);
    put(&user, &third).unwrap();
    assert_eq!(read(&user, "f"), whole);
}

#[test]
fn a_chain_goes_on_over_what_ran_beside_it() {
    let user = World::with(&[("f", LINES)]);
    let [first, _, beside] = side_by_side(&user);
    let snapshot = user.checkout().snapshot().unwrap();
    let next = user.start_after(&snapshot, 4, &[&first]);
    next.write("f", &lines(&[(1, "ONE")]));
    let next = next.done();
    put(&user, &first).unwrap();
    put(&user, &beside).unwrap();
    let applied = next.apply(&user, &[first.earlier(true)]).unwrap();
    assert_eq!((applied.files, applied.was_in), (1, vec![true]));
    assert_eq!(read(&user, "f"), lines(&[(1, "ONE"), (9, "nine")]));
}

#[test]
fn uncommitted_work_that_all_of_them_began_with_is_built_on() {
    let user = World::with(&[("f", LINES)]);
    user.write("f", &lines(&[(3, "mine")]));
    user.write("new", LINES);
    let from = |number, at, text| {
        let task = task(&user, number);
        task.write("f", &lines(&[(3, "mine"), (at, text)]));
        task.write("new", &lines(&[(at, text)]));
        task.done()
    };
    all(&user, &[from(1, 1, "one"), from(2, 9, "nine")]);
    let both = lines(&[(1, "one"), (3, "mine"), (9, "nine")]);
    assert_eq!(read(&user, "f"), both);
    assert_eq!(read(&user, "new"), lines(&[(1, "one"), (9, "nine")]));
}

#[test]
fn what_the_user_edited_after_an_apply_is_the_users() {
    let user = World::with(&[("f", LINES), ("g", "1\n")]);
    let [first, ..] = side_by_side(&user);
    let two = task(&user, 4);
    two.write("f", &lines(&[(5, "five")]));
    two.write("g", "2\n");
    let second = two.done();
    put(&user, &first).unwrap();
    let left = read(&user, "f");
    let refused = || {
        let was = fs::read(user.user().join("f")).ok();
        assert_eq!(in_the_way(put(&user, &second)), names(&["f"]));
        assert_eq!(fs::read(user.user().join("f")).ok(), was);
        assert_eq!(read(&user, "g"), "1\n", "nothing was touched");
    };
    user.write("f", &format!("{left}\n"));
    refused();
    // Staged, it is still an edit.
    git(&user.user(), &["add", "f"]);
    refused();
    git(&user.user(), &["reset", "-q"]);
    user.write("f", &left.replace('8', "eight"));
    refused();
    user.write("f", &left);
    set_mode(&user.user().join("f"), 0o755);
    refused();
    fs::remove_file(user.user().join("f")).unwrap();
    refused();
    user.write("f", &left);
    put(&user, &second).unwrap();
    assert_eq!(read(&user, "f"), lines(&[(1, "one"), (5, "five")]));
}

#[test]
fn what_the_user_wrote_by_hand_is_the_users_also_where_a_task_made_the_same() {
    let user = World::with(&[("f", LINES)]);
    let [first, second, _] = side_by_side(&user);
    let refused = |world: &World| {
        let mine = read(world, "f");
        assert_eq!(in_the_way(put(world, &second)), names(&["f"]));
        assert_eq!(read(world, "f"), mine);
    };
    user.write("f", &lines(&[(1, "one")]));
    refused(&user);
    // An apply that fails while it writes has left nothing.
    user.write("f", LINES);
    let checkout = user.checkout();
    let change = first.change(&[]);
    let received = Received::take(&checkout, &change).unwrap();
    let edited = apply_if(&checkout, &received, || {
        user.write("f", "written just then\n");
        true
    });
    assert_eq!(in_the_way(edited), names(&["f"]));
    assert_eq!(read(&user, "f"), "written just then\n");
    user.write("f", &lines(&[(1, "one")]));
    refused(&user);
    // Another work tree, where nothing was applied.
    user.write("f", LINES);
    put(&user, &first).unwrap();
    let other = user.tmp.path().join("tree");
    git(
        &user.user(),
        &["worktree", "add", "-q", other.to_str().unwrap()],
    );
    fs::write(other.join("f"), lines(&[(1, "one")])).unwrap();
    let there = Checkout::discover(&other).unwrap().unwrap();
    let refused = crate::common::apply(&there, &second.change(&[]));
    assert_eq!(in_the_way(refused), names(&["f"]));
    put(&user, &second).unwrap();
}

#[test]
fn each_work_tree_has_its_own() {
    let user = World::with(&[("f", LINES)]);
    let dones = side_by_side(&user);
    let other = user.tmp.path().join("tree");
    git(
        &user.user(),
        &["worktree", "add", "-q", other.to_str().unwrap()],
    );
    let there = Checkout::discover(&other).unwrap().unwrap();
    for done in &dones {
        crate::common::apply(&there, &done.change(&[])).unwrap();
        put(&user, done).unwrap();
    }
    assert_eq!(
        fs::read_to_string(other.join("f")).unwrap(),
        read(&user, "f")
    );
}

#[test]
fn commits_stashes_and_branches_between_confuse_nothing() {
    let user = World::with(&[("f", LINES), ("other", "x\n")]);
    let dones = side_by_side(&user);
    let run = |args: &[&str]| git(&user.user(), args);
    put(&user, &dones[0]).unwrap();
    // Something else is committed, on another branch.
    run(&["switch", "-q", "-c", "side"]);
    user.write("other", "y\n");
    run(&["commit", "-q", "-m", "other", "other"]);
    put(&user, &dones[1]).unwrap();
    // Away and here again, with other times.
    run(&["stash", "-q"]);
    assert_eq!(read(&user, "f"), LINES);
    run(&["stash", "pop", "-q"]);
    put(&user, &dones[2]).unwrap();
    let whole = lines(&[(1, "one"), (5, "five"), (9, "nine")]);
    assert_eq!(read(&user, "f"), whole);
    // Committed, and taken out of the commit again.
    run(&["commit", "-q", "-a", "-m", "all"]);
    run(&["reset", "-q", "HEAD~1"]);
    let fourth = writes(&user, 4, "f", &whole.replace('3', "three"));
    let fifth = writes(&user, 5, "f", &whole.replace('7', "seven"));
    all(&user, &[fourth, fifth]);
    assert_eq!(
        read(&user, "f"),
        whole.replace('3', "three").replace('7', "seven")
    );
    // Thrown away: what comes then comes upon HEAD alone.
    run(&["checkout", "-q", "f"]);
    put(&user, &dones[1]).unwrap();
    assert_eq!(read(&user, "f"), lines(&[(5, "five")]));
}

#[test]
fn what_the_user_takes_back_out_of_history_is_an_edit() {
    let user = World::with(&[("f", LINES)]);
    let [first, second, _] = side_by_side(&user);
    put(&user, &first).unwrap();
    user.commit("the first");
    user.write("f", &lines(&[(1, "one"), (9, "mine")]));
    user.commit("mine");
    git(&user.user(), &["checkout", "-q", "HEAD~1", "--", "f"]);
    assert_eq!(in_the_way(put(&user, &second)), names(&["f"]));
    assert_eq!(read(&user, "f"), lines(&[(1, "one")]));
}

#[test]
fn a_conflict_names_the_task_whose_change_is_there() {
    let user = World::with(&[("f", LINES), ("g", "1\n")]);
    let [first, second, _] = side_by_side(&user);
    let four = task(&user, 4);
    four.write("f", &lines(&[(5, "V")]));
    four.write("g", "2\n");
    let fourth = four.done();
    all(&user, &[first, second]);
    let both = read(&user, "f");
    let refused = put(&user, &fourth);
    let said = "the change conflicts with what the checkout has now in `f`: task_002, applied before, \
                changed the same";
    assert_eq!(refused.as_ref().unwrap_err().to_string(), said);
    let is_uncommitted =
        |put: &Put| matches!(put, Err(ApplyError::Conflict { uncommitted, .. }) if *uncommitted);
    assert!(is_uncommitted(&refused));
    assert_eq!(
        (read(&user, "f"), read(&user, "g")),
        (both, "1\n".to_owned())
    );
    // Committed, it is still known where it comes from.
    user.commit("both");
    let refused = put(&user, &fourth);
    assert!(!is_uncommitted(&refused));
    assert_eq!(conflict(refused), (names(&["f"]), names(&["task_002"])));
    // With more in the same file nobody knows.
    user.write("f", &lines(&[(5, "mine")]));
    user.commit("mine");
    assert_eq!(conflict(put(&user, &fourth)), (names(&["f"]), names(&[])));
}

#[test]
fn a_conflict_beside_the_users_own_edit_names_that() {
    let user = World::with(&[("f", LINES), ("g", LINES)]);
    let [first, ..] = side_by_side(&user);
    let two = task(&user, 4);
    two.write("f", &lines(&[(1, "I")]));
    two.write("g", &lines(&[(1, "I")]));
    let second = two.done();
    put(&user, &first).unwrap();
    user.write("g", &lines(&[(1, "mine")]));
    assert_eq!(in_the_way(put(&user, &second)), names(&["g"]));
}

#[test]
fn a_directory_names_the_task_too() {
    let dir = tempfile::tempdir().unwrap();
    let (top, keep) = (dir.path().join("top"), dir.path().join("keep"));
    fs::create_dir(&top).unwrap();
    fs::write(top.join("f"), LINES).unwrap();
    let user = World::without_commit();
    let take = || Checkout::of_directory(&top, &keep, &[]).unwrap().0;
    let snapshot = take().snapshot().unwrap();
    let of = |number, at, text| {
        let task = user.start_after(&snapshot, number, &[]);
        task.write("f", &lines(&[(at, text)]));
        task.done()
    };
    let dones = [of(1, 1, "one"), of(2, 5, "five"), of(3, 5, "V")];
    let put = |done: &Done| {
        let checkout = take();
        let applied = crate::common::apply(&checkout, &done.change(&[]))?;
        import_branch(&checkout, &done.change(&[]), &[]).unwrap();
        Ok(applied)
    };
    put(&dones[0]).unwrap();
    put(&dones[1]).unwrap();
    let refused = put(&dones[2]);
    assert_eq!(conflict(refused), (names(&["f"]), names(&["task_002"])));
}

#[test]
fn an_apply_that_was_killed_in_the_middle_is_gone_on_with() {
    let user = World::with(&[("f", LINES), ("g", LINES), ("h", LINES)]);
    let of = |number, at, text| {
        let task = task(&user, number);
        for name in ["f", "g", "h", "new"] {
            task.write(name, &lines(&[(at, text)]));
        }
        task.done()
    };
    let first = of(1, 1, "one");
    let [second, third] = [(2, 5, "five"), (3, 9, "nine")].map(|(number, at, text)| {
        let task = task(&user, number);
        for name in ["f", "g", "h"] {
            task.write(name, &lines(&[(at, text)]));
        }
        task.done()
    });
    put(&user, &first).unwrap();
    put(&user, &second).unwrap();
    // As if it had not come to these.
    user.write("g", &lines(&[(1, "one")]));
    user.write("h", &lines(&[(1, "one")]));
    put(&user, &third).unwrap();
    put(&user, &second).unwrap();
    for name in ["f", "g", "h"] {
        let whole = lines(&[(1, "one"), (5, "five"), (9, "nine")]);
        assert_eq!(read(&user, name), whole, "{name}");
    }
}

/// Each file that has another name now is there at least once at any time.
#[test]
fn an_apply_of_renames_that_was_killed_is_gone_on_with() {
    const NAMES: [&str; 4] = ["1", "2", "3", "4"];
    let text = |name: &str| format!("the file {name}\n{LINES}");
    // Whether the user has committed them, and how many of the old and the new ones are there.
    for (is_committed, old, new) in [(true, 4, 2), (true, 2, 4), (false, 4, 2), (false, 2, 4)] {
        let user = World::with(&[("f", LINES)]);
        let write = |dir: &str, names: &[&str]| {
            for name in names {
                user.write(&format!("{dir}/{name}"), &text(name));
            }
        };
        write("d", &NAMES);
        if is_committed {
            user.commit("files");
        }
        let task = task(&user, 1);
        fs::rename(task.dir().join("d"), task.dir().join("e")).unwrap();
        let done = task.done();
        put(&user, &done).unwrap();
        assert!(!user.user().join("d").exists());
        // As if it had not come to the others.
        write("d", &NAMES[NAMES.len() - old..]);
        for name in &NAMES[new..] {
            fs::remove_file(user.user().join("e").join(name)).unwrap();
        }
        put(&user, &done).unwrap();
        assert!(!user.user().join("d").exists());
        for name in NAMES {
            assert_eq!(read(&user, &format!("e/{name}")), text(name));
        }
    }
}

#[test]
fn modes_are_merged_too() {
    let user = World::with(&[("f", LINES), ("g", LINES)]);
    let first = task(&user, 1);
    set_mode(&first.dir().join("f"), 0o755);
    first.write("g", &lines(&[(1, "one")]));
    let second = task(&user, 2);
    second.write("f", &lines(&[(1, "one")]));
    set_mode(&second.dir().join("g"), 0o755);
    all(&user, &[first.done(), second.done()]);
    for name in ["f", "g"] {
        assert_eq!(read(&user, name), lines(&[(1, "one")]));
        assert_eq!(mode(&user.user().join(name)) & 0o100, 0o100, "{name}");
    }
}

#[test]
fn deletions_and_renames_go_together_with_edits_where_git_says_so() {
    // Nothing that could be taken for another one with a new name.
    let of = |name: &str, text: &str| -> String {
        text.lines().flat_map(|line| [name, line, "\n"]).collect()
    };
    let user = World::with(&[
        ("gone", &of("gone", LINES)),
        ("moved", &of("moved", LINES)),
        ("edited", &of("edited", LINES)),
    ]);
    let first = task(&user, 1);
    fs::remove_file(first.dir().join("gone")).unwrap();
    fs::rename(first.dir().join("moved"), first.dir().join("there")).unwrap();
    let (edited, moved) = (
        of("edited", &lines(&[(1, "one")])),
        of("moved", &lines(&[(9, "nine")])),
    );
    first.write("edited", &edited);
    let second = task(&user, 2);
    fs::remove_file(second.dir().join("gone")).unwrap();
    second.write("moved", &moved);
    fs::rename(second.dir().join("edited"), second.dir().join("new")).unwrap();
    let (first, second) = (first.done(), second.done());
    let edits_the_gone = writes(&user, 3, "gone", &of("gone", &lines(&[(5, "five")])));
    put(&user, &first).unwrap();
    // What the first one has under a new name is the user's, once edited.
    user.write("there", &of("moved", &lines(&[(1, "mine")])));
    assert_eq!(in_the_way(put(&user, &second)), names(&["there"]));
    user.write("there", &of("moved", LINES));
    assert_eq!(put(&user, &second).unwrap().files, 3);
    assert_eq!((read(&user, "there"), read(&user, "new")), (moved, edited));
    for name in ["gone", "moved", "edited"] {
        assert!(!user.user().join(name).exists(), "{name}");
    }
    let (paths, makers) = conflict(put(&user, &edits_the_gone));
    assert_eq!(paths, names(&["gone"]));
    assert_eq!(
        makers,
        names(&["task_001"]),
        "the second wrote nothing there"
    );
}

#[test]
fn an_edited_file_that_another_task_deletes_is_a_conflict() {
    let user = World::with(&[("f", LINES)]);
    let first = writes(&user, 1, "f", &lines(&[(1, "one")]));
    let second = task(&user, 2);
    fs::remove_file(second.dir().join("f")).unwrap();
    put(&user, &first).unwrap();
    let refused = put(&user, &second.done());
    assert_eq!(conflict(refused), (names(&["f"]), names(&["task_001"])));
    assert_eq!(read(&user, "f"), lines(&[(1, "one")]));
}

#[test]
fn a_file_that_two_tasks_make_is_one_if_they_make_it_the_same() {
    let user = World::with(&[("f", "x\n")]);
    let same = [1, 2].map(|number| {
        let task = task(&user, number);
        task.write("new", LINES);
        task.write(&format!("own-{number}"), "own\n");
        task.done()
    });
    let other = writes(&user, 3, "new", "another\n");
    all(&user, &same);
    assert_eq!(read(&user, "new"), LINES);
    assert!(user.user().join("own-2").exists());
    let refused = put(&user, &other);
    assert_eq!(conflict(refused), (names(&["new"]), names(&["task_001"])));
    assert_eq!(read(&user, "new"), LINES);
    // One that is edited since stands in the way.
    user.write("new", "mine\n");
    assert_eq!(in_the_way(put(&user, &other)), names(&["new"]));
}

#[test]
fn a_file_where_another_task_makes_a_directory_is_a_conflict() {
    let user = World::with(&[("f", "x\n")]);
    let file = |number, name: &str| writes(&user, number, name, "new\n");
    let pairs = [
        (file(1, "new"), file(2, "new/inner")),
        (file(3, "other/inner"), file(4, "other")),
    ];
    let mut found = Vec::new();
    for (first, second) in pairs {
        put(&user, &first).unwrap();
        let (paths, makers) = conflict(put(&user, &second));
        assert_eq!(makers, [first.branch.replace("orchestra/", "")]);
        found.extend(paths);
    }
    assert_eq!(found, names(&["new", "other"]));
    assert_eq!(read(&user, "new"), "new\n");
    assert_eq!(read(&user, "other/inner"), "new\n");
}

#[test]
fn binary_files_and_links_are_whole() {
    let user = World::with(&[("f", "x\n")]);
    fs::write(user.user().join("binary"), b"\0one\n").unwrap();
    fs::write(user.user().join("beside"), b"\0one\n").unwrap();
    symlink("f", user.user().join("link")).unwrap();
    symlink("f", user.user().join("to")).unwrap();
    user.commit("binary and links");
    let relink = |task: &Task, name: &str, to: &str| {
        fs::remove_file(task.dir().join(name)).unwrap();
        symlink(to, task.dir().join(name)).unwrap();
    };
    let first = task(&user, 1);
    first.write("binary", "\0two\n");
    relink(&first, "link", "binary");
    let second = task(&user, 2);
    // The same, and more.
    second.write("binary", "\0two\n");
    second.write("beside", "\0two\n");
    relink(&second, "link", "binary");
    relink(&second, "to", "binary");
    let clashes = [("binary", 3), ("link", 4)].map(|(name, number)| {
        let task = task(&user, number);
        match name {
            "link" => relink(&task, name, "beside"),
            _ => task.write(name, "\0three\n"),
        }
        (name, task.done())
    });
    all(&user, &[first.done(), second.done()]);
    assert_eq!(read(&user, "beside"), "\0two\n");
    for name in ["link", "to"] {
        let to = fs::read_link(user.user().join(name)).unwrap();
        assert_eq!(to, Path::new("binary"), "{name}");
    }
    for (name, clash) in &clashes {
        let refused = put(&user, clash);
        assert_eq!(conflict(refused), (names(&[name]), names(&["task_001"])));
    }
    // A link of the user's in the place of what was left.
    fs::remove_file(user.user().join("beside")).unwrap();
    symlink("f", user.user().join("beside")).unwrap();
    let fifth = writes(&user, 5, "f", "y\n");
    put(&user, &fifth).unwrap();
    let to = fs::read_link(user.user().join("beside")).unwrap();
    assert_eq!(to, Path::new("f"));
}

#[test]
fn a_record_that_is_damaged_lets_nothing_be_written_over() {
    let user = World::with(&[("f", LINES)]);
    let [first, second, third] = side_by_side(&user);
    put(&user, &first).unwrap();
    let file = user.user().join(".git/orchestra-applied");
    let sound = fs::read(&file).unwrap();
    for damaged in [&b""[..], b"\0\xff", &sound[..sound.len() - 1]] {
        fs::write(&file, damaged).unwrap();
        assert_eq!(in_the_way(put(&user, &second)), names(&["f"]));
    }
    fs::write(&file, &sound).unwrap();
    all(&user, &[second, third]);
}

#[test]
fn a_clone_without_the_commit_below_a_change_is_told_which_one_it_lacks() {
    let user = World::with(&[("a.txt", "one\n")]);
    let other = user.tmp.path().join("other");
    let (from, to) = (user.user(), other.to_str().unwrap().to_owned());
    git(&from, &["clone", "-q", ".", &to]);
    user.write("a.txt", "two\n");
    user.commit("later");
    let lacks = git(&from, &["rev-parse", "HEAD"]);
    let task = user.start();
    task.write("b.txt", "agent\n");
    let collected = task.collect();
    let checkout = Checkout::discover(&other).unwrap().unwrap();
    let error = apply(&checkout, &task.change(&collected)).unwrap_err();
    let said = format!("this repository does not have commit {lacks}, from which the task started");
    assert_eq!(error.to_string(), said);
    git(&other, &["fetch", "-q"]);
    let checkout = Checkout::discover(&other).unwrap().unwrap();
    apply(&checkout, &task.change(&collected)).unwrap();
    assert!(other.join("b.txt").exists());
}
