//! Branches of tasks in the user's repository: which another branch has too, and their removal.

use std::{fs, path::Path};

use orchestra_repo::{
    Held, Keeper, Keeping, LastWrite, OnlyHere, Removal, TaskBranch, last_write, only_here,
    remove_branch, task_branches,
};
use orchestra_types::TaskId;

use crate::common::{BRANCH, CLUSTER, World, git, import_branch};

fn branches(user: &World) -> Vec<TaskBranch> {
    task_branches(&user.checkout()).unwrap()
}

fn only(user: &World) -> TaskBranch {
    let [branch] = &branches(user)[..] else {
        panic!("there is one");
    };
    branch.clone()
}

fn lost(user: &World, branch: &TaskBranch) -> OnlyHere {
    let checkout = user.checkout();
    let keeping = Keeping::of(&checkout).unwrap();
    only_here(&checkout, &branch.commit, &keeping).unwrap()
}

/// A branch with a commit of its own, made without a work tree.
fn make(dir: &Path, branch: &str) -> String {
    let tree = git(dir, &["rev-parse", "HEAD^{tree}"]);
    let commit = git(dir, &["commit-tree", "-p", "HEAD", "-m", branch, &tree]);
    git(
        dir,
        &["update-ref", &format!("refs/heads/{branch}"), &commit],
    );
    commit
}

fn within(branch: &TaskBranch) -> Option<&str> {
    branch.within.as_ref().map(Keeper::name)
}

fn remove(user: &World, seen: &TaskBranch) -> Removal {
    remove_branch(&user.checkout(), seen).unwrap()
}

fn exists(user: &World, branch: &str) -> bool {
    let full = format!("refs/heads/{branch}");
    !git(&user.user(), &["for-each-ref", &full]).is_empty()
}

#[test]
fn a_damaged_branch_or_tag_keeps_nothing_and_stops_no_look() {
    let user = World::with(&[("a.txt", "one\n")]);
    let dir = user.user();
    make(&dir, "orchestra/task_001");
    let branch = only(&user);
    assert!(matches!(lost(&user, &branch), OnlyHere::Anothers { .. }));
    git(&dir, &["tag", "-a", "-m", "of a tag", "kept", "main"]);
    git(
        &dir,
        &["tag", "-a", "-m", "of a tree", "tree", "main^{tree}"],
    );
    let refs = dir.join(".git/refs");
    for broken in ["heads/broken", "heads/orchestra/task_002", "tags/broken"] {
        fs::write(refs.join(broken), format!("{}\n", "5".repeat(40))).unwrap();
    }
    assert!(matches!(lost(&user, &branch), OnlyHere::Anothers { .. }));
    // A tag of a tag keeps what that one is of.
    git(&dir, &["tag", "-a", "-m", "one", "one", &branch.commit]);
    git(&dir, &["tag", "-a", "-m", "two", "two", "one"]);
    git(&dir, &["tag", "-d", "one"]);
    assert_eq!(lost(&user, &branch), OnlyHere::Agents);
}

#[test]
fn each_says_whose_it_is_and_which_other_branch_has_its_commits() {
    let user = World::with(&[("a.txt", "one\n")]);
    let dir = user.user();
    assert_eq!(branches(&user), []);
    for mine in ["orchestra/mine", "orchestra/task_1", "orchestra/task_001-x"] {
        make(&dir, mine);
    }
    assert_eq!(branches(&user), [], "names that a person gave");
    let beside = make(&dir, "orchestra/task_001-2-fix");
    let ten = make(&dir, "orchestra/task_010");
    let commit = make(&dir, BRANCH);
    let known = branches(&user);
    let names = known
        .iter()
        .map(|b| (&*b.name, b.task, b.beside, &*b.commit));
    assert_eq!(
        names.collect::<Vec<_>>(),
        [
            (BRANCH, TaskId(1), None, &*commit),
            ("orchestra/task_001-2-fix", TaskId(1), Some(2), &*beside),
            ("orchestra/task_010", TaskId(10), None, &*ten),
        ]
    );
    let all_within = |user: &World| {
        let known = branches(user);
        let known = known.iter().map(|b| within(b).unwrap_or("").to_owned());
        known.collect::<Vec<_>>()
    };
    assert_eq!(all_within(&user), ["", "", ""]);
    git(&dir, &["merge", "-q", "--no-edit", BRANCH]);
    git(&dir, &["branch", "-q", "topic", &beside]);
    git(&dir, &["update-ref", "refs/remotes/origin/x", &ten]);
    assert_eq!(all_within(&user), ["main", "topic", "origin/x"]);
    // A branch of ours keeps no other, nor does a remote's copy of one, and of a mere name only what it means does.
    git(&dir, &["update-ref", "-d", "refs/remotes/origin/x"]);
    git(&dir, &["update-ref", "refs/heads/orchestra/task_011", &ten]);
    let copy = "refs/remotes/origin/orchestra/task_010";
    git(&dir, &["update-ref", copy, &ten]);
    git(
        &dir,
        &[
            "symbolic-ref",
            "refs/heads/alias",
            "refs/heads/orchestra/task_010",
        ],
    );
    assert_eq!(all_within(&user), ["main", "topic", "", ""]);
    let known = branches(&user);
    assert_eq!(known[2].alias.as_deref(), Some("alias"));
    assert_eq!(
        known[2].in_use().as_deref(),
        Some("`alias` is another name of it")
    );
    assert_eq!(known[3].in_use(), None);
}

#[test]
fn a_commit_that_only_a_head_without_a_branch_has_is_nowhere_else() {
    let user = World::with(&[("a.txt", "one\n")]);
    make(&user.user(), BRANCH);
    git(&user.user(), &["checkout", "-q", "--detach", BRANCH]);
    assert_eq!(within(&only(&user)), None);
    git(&user.user(), &["checkout", "-q", "main"]);
    git(&user.user(), &["merge", "-q", "--ff-only", BRANCH]);
    git(&user.user(), &["checkout", "-q", "--detach"]);
    assert_eq!(within(&only(&user)), Some("main"));
}

#[test]
fn one_goes_as_it_was_seen_and_not_otherwise() {
    let user = World::with(&[("a.txt", "one\n")]);
    let dir = user.user();
    let first = make(&dir, BRANCH);
    let seen = only(&user);
    // Somebody goes on with it.
    git(&dir, &["checkout", "-q", BRANCH]);
    user.commit("mine");
    let mine = git(&dir, &["rev-parse", "HEAD"]);
    git(&dir, &["checkout", "-q", "main"]);
    assert_eq!(remove(&user, &seen), Removal::Changed);
    assert_eq!(git(&dir, &["rev-parse", BRANCH]), mine);
    // And has it checked out, in any work tree.
    git(&dir, &["branch", "-q", "-f", BRANCH, &first]);
    let tree = user.tmp.path().join("tree").to_string_lossy().into_owned();
    git(&dir, &["worktree", "add", "-q", &tree, BRANCH]);
    let (held, place) = only(&user).held.unwrap();
    assert_eq!(
        (held, place.to_string_lossy().into_owned()),
        (Held::CheckedOut, tree.clone())
    );
    let refused = remove_branch(&user.checkout(), &seen)
        .unwrap_err()
        .to_string();
    assert!(refused.contains("is checked out in"), "{refused}");
    assert!(exists(&user, BRANCH));
    git(&dir, &["worktree", "remove", &tree]);
    assert_eq!(remove(&user, &seen), Removal::Done);
    assert!(!exists(&user, BRANCH));
    assert_eq!(remove(&user, &seen), Removal::Gone);
    assert_eq!(branches(&user), []);
    // Nothing else is ever removed.
    let main = TaskBranch {
        name: "main".to_owned(),
        commit: git(&dir, &["rev-parse", "main"]),
        ..seen
    };
    assert!(remove_branch(&user.checkout(), &main).is_err());
}

#[test]
fn a_name_that_became_another_name_of_something_takes_nothing_with_it() {
    let user = World::with(&[("a.txt", "one\n")]);
    let dir = user.user();
    make(&dir, BRANCH);
    git(&dir, &["merge", "-q", "--ff-only", BRANCH]);
    let seen = only(&user);
    git(&dir, &["branch", "-q", "topic", BRANCH]);
    let full = format!("refs/heads/{BRANCH}");
    git(&dir, &["symbolic-ref", &full, "refs/heads/topic"]);
    assert_eq!(branches(&user), []);
    let _ = remove_branch(&user.checkout(), &seen);
    assert!(exists(&user, "topic"));
}

#[test]
fn a_head_without_a_commit_has_nothing_and_stops_nothing() {
    let user = World::without_commit();
    assert_eq!(branches(&user), []);
    user.commit("first");
    let dir = user.user();
    make(&dir, BRANCH);
    git(&dir, &["checkout", "-q", "--orphan", "new"]);
    assert_eq!(within(&only(&user)), None);
    git(&dir, &["update-ref", "refs/heads/main", BRANCH]);
    assert_eq!(within(&only(&user)), Some("main"));
}

#[test]
fn the_branch_of_head_is_known_where_a_tag_has_its_name() {
    let user = World::with(&[("a.txt", "one\n")]);
    let dir = user.user();
    git(&dir, &["tag", "main"]);
    make(&dir, BRANCH);
    git(&dir, &["merge", "-q", "--ff-only", BRANCH]);
    // Which would come first.
    git(&dir, &["branch", "-q", "earlier", BRANCH]);
    assert_eq!(within(&only(&user)), Some("main"));
    assert_eq!(user.checkout().branch(), Some("main"));
}

#[test]
fn a_branch_stays_where_the_one_that_had_its_commits_is_another_by_now() {
    let user = World::with(&[("a.txt", "one\n")]);
    let dir = user.user();
    let commit = make(&dir, BRANCH);
    let topic = "refs/heads/topic";
    let full = format!("refs/heads/{BRANCH}");
    let back = ["update-ref", "--no-deref", topic, &commit];
    git(&dir, &back);
    let seen = only(&user);
    assert_eq!(within(&seen), Some("topic"));
    let changes: [&[&str]; 3] = [
        &["update-ref", "-d", topic],
        &["update-ref", topic, "main"],
        &["symbolic-ref", topic, &full],
    ];
    for change in changes {
        git(&dir, change);
        assert_eq!(remove(&user, &seen), Removal::KeeperChanged, "{change:?}");
        assert_eq!(git(&dir, &["rev-parse", BRANCH]), commit);
        git(&dir, &back);
    }
    assert_eq!(remove(&user, &seen), Removal::Done);
    assert!(!exists(&user, BRANCH) && exists(&user, "topic"));
}

#[test]
fn a_ref_whose_commit_is_not_there_keeps_nothing_and_stops_nothing() {
    let user = World::with(&[("a.txt", "one\n")]);
    let dir = user.user();
    let commit = make(&dir, BRANCH);
    let remote = dir.join(".git/refs/remotes/origin");
    fs::create_dir_all(&remote).unwrap();
    let gone = "1".repeat(commit.len());
    fs::write(remote.join("broken"), format!("{gone}\n")).unwrap();
    fs::write(remote.join("HEAD"), "ref: refs/remotes/origin/none\n").unwrap();
    assert_eq!(within(&only(&user)), None);
    git(&dir, &["branch", "-q", "topic", &commit]);
    let seen = only(&user);
    assert_eq!(within(&seen), Some("topic"));
    assert_eq!(remove(&user, &seen), Removal::Done);
}

#[test]
fn one_of_a_work_tree_that_is_gone_says_how_git_forgets_it() {
    let user = World::with(&[("a.txt", "one\n")]);
    let dir = user.user();
    make(&dir, BRANCH);
    let tree = user.tmp.path().join("tree");
    let place = tree.to_string_lossy().into_owned();
    git(&dir, &["worktree", "add", "-q", &place, BRANCH]);
    fs::remove_dir_all(&tree).unwrap();
    let said = only(&user).in_use().unwrap();
    assert!(said.contains(&place) && said.contains("`git worktree prune`"));
    git(&dir, &["worktree", "prune"]);
    assert_eq!(only(&user).in_use(), None);
}

#[test]
fn a_branch_whose_own_commit_is_not_there_is_told_and_stops_nothing() {
    let user = World::with(&[("a.txt", "one\n")]);
    let dir = user.user();
    let broken = make(&dir, BRANCH);
    let (at, rest) = broken.split_at(2);
    let object = dir.join(".git/objects").join(at).join(rest);
    let kept = fs::read(&object).unwrap();
    lose(&dir, &broken);
    let seen = only(&user);
    assert_eq!((&*seen.commit, seen.committed_at), (&*broken, None));
    assert_eq!(within(&seen), None);
    let ten = make(&dir, "orchestra/task_010");
    git(&dir, &["branch", "-q", "topic", &ten]);
    let [first, second] = &branches(&user)[..] else {
        panic!("there are two");
    };
    assert_eq!((first, within(second)), (&seen, Some("topic")));
    assert!(second.committed_at.is_some());
    assert_eq!(remove(&user, second), Removal::Done);
    fs::write(&object, kept).unwrap();
    assert!(only(&user).committed_at.is_some());
}

/// Takes the object away that a commit is.
fn lose(dir: &Path, commit: &str) {
    let (at, rest) = commit.split_at(2);
    fs::remove_file(dir.join(".git/objects").join(at).join(rest)).unwrap();
}

#[test]
fn a_branch_that_lacks_a_commit_before_it_is_told_and_stops_nothing() {
    let user = World::with(&[("a.txt", "one\n")]);
    let dir = user.user();
    let on = |branch: &str, parent: &str| {
        let tree = git(&dir, &["rev-parse", "HEAD^{tree}"]);
        let commit = git(&dir, &["commit-tree", "-p", parent, "-m", branch, &tree]);
        let full = format!("refs/heads/{branch}");
        git(&dir, &["update-ref", &full, &commit]);
        commit
    };
    let lost = on("lost", "HEAD");
    on(BRANCH, &lost);
    // It has what is lost before it as well, and git says that it has all commits of ours.
    on("mine", &lost);
    git(&dir, &["branch", "-q", "-D", "lost"]);
    make(&dir, "orchestra/task_002");
    let merged = make(&dir, "orchestra/task_003");
    git(&dir, &["branch", "-q", "topic", &merged]);
    lose(&dir, &lost);
    let known = branches(&user);
    let known: Vec<_> = known.iter().map(|b| (b.severed, within(b))).collect();
    assert_eq!(known, [(true, None), (false, None), (false, Some("topic"))]);
    assert!(branches(&user)[0].committed_at.is_some());
    // One that is none of ours is of no use, and stops nothing either.
    git(&dir, &["update-ref", "-d", &format!("refs/heads/{BRANCH}")]);
    let known = branches(&user);
    let known: Vec<_> = known.iter().map(|b| (b.is_whole(), within(b))).collect();
    assert_eq!(known, [(true, None), (true, Some("topic"))]);
}

#[test]
fn with_a_branch_goes_what_the_config_says_of_it() {
    let user = World::with(&[("a.txt", "one\n")]);
    let dir = user.user();
    let beside = "orchestra/task_001-1-fix";
    for branch in [BRANCH, beside] {
        make(&dir, branch);
        let name = format!("branch.{branch}.description");
        git(&dir, &["config", &name, "mine"]);
    }
    let of = |user: &World| {
        git(
            &user.user(),
            &["config", "--list", "--local", "--name-only"],
        )
    };
    let gone = branches(&user);
    assert_eq!(remove(&user, &gone[1]), Removal::Done);
    assert!(!of(&user).contains(beside), "{}", of(&user));
    assert!(of(&user).contains(BRANCH), "that of another one stays");
    assert_eq!(remove(&user, &gone[0]), Removal::Done);
    assert!(!of(&user).contains("branch."), "{}", of(&user));
}

#[test]
fn a_branch_says_who_wrote_it_last_as_long_as_git_knows() {
    let user = World::with(&[("a.txt", "one\n")]);
    // As where a person does not want them.
    git(&user.user(), &["config", "core.logAllRefUpdates", "false"]);
    git(&user.user(), &["config", "log.date", "iso"]);
    git(&user.user(), &["config", "log.showSignature", "true"]);
    let task = user.start();
    task.write("a.txt", "two\n");
    let collected = task.collect();
    let change = task.change(&collected);
    import_branch(&user.checkout(), &change, &[]).unwrap();
    let last = |user: &World| last_write(&user.checkout(), &only(user)).unwrap();
    let LastWrite::Ours { at, cluster } = last(&user) else {
        panic!("{:?}", last(&user));
    };
    assert!(at > 1_700_000_000, "{at}");
    assert_eq!(cluster.as_deref(), Some(CLUSTER));
    // A person goes on with it.
    let full = format!("refs/heads/{BRANCH}");
    let tree = git(&user.user(), &["rev-parse", &format!("{BRANCH}^{{tree}}")]);
    let mine = ["commit-tree", "-p", BRANCH, "-m", "mine", &tree];
    let mine = git(&user.user(), &mine);
    git(&user.user(), &["update-ref", "-m", "mine", &full, &mine]);
    assert!(matches!(last(&user), LastWrite::Anothers { at } if at > 1_700_000_000));
    // Back again, so that the commit is only in the reflog.
    let back = ["update-ref", "-m", "back", &full, &collected.commit];
    git(&user.user(), &back);
    assert!(matches!(last(&user), LastWrite::Anothers { at } if at > 1_700_000_000));
    let expire = ["reflog", "expire", "--expire=now", &full];
    git(&user.user(), &expire);
    assert_eq!(last(&user), LastWrite::Unknown);
}

#[test]
fn what_only_a_branch_of_ours_has_may_be_a_commit_of_the_users() {
    let user = World::with(&[("a.txt", "one\n")]);
    let dir = user.user();
    git(&dir, &["checkout", "-q", "--detach"]);
    user.write("mine.txt", "mine\n");
    user.commit("mine");
    let mine = git(&dir, &["rev-parse", "HEAD"]);
    // Uncommitted work, in a commit of ours.
    user.write("b.txt", "two\n");
    let task = user.start();
    task.write("a.txt", "two\n");
    let agent = git(task.dir(), &["config", "--local", "user.email"]);
    let agent = format!("user.email={agent}");
    git(
        task.dir(),
        &["-c", &agent, "commit", "-q", "-a", "-m", "the agent's own"],
    );
    task.write("c.txt", "three\n");
    let collected = task.collect();
    import_branch(&user.checkout(), &task.change(&collected), &[]).unwrap();
    let log = [
        "log",
        "-1",
        "--format=%H",
        "--grep=^Uncommitted work$",
        BRANCH,
    ];
    let task_start = git(&dir, &log);
    let uncommitted = OnlyHere::Uncommitted {
        commit: task_start.clone(),
    };
    let look = || lost(&user, &only(&user));
    let anothers = OnlyHere::Anothers {
        commit: mine.clone(),
    };
    // A detached HEAD keeps it only until the next checkout.
    assert_eq!(look(), anothers);
    git(&dir, &["checkout", "-q", "main"]);
    assert_eq!(look(), anothers);
    for (name, keeps) in [
        ("refs/heads/orchestra/task_002", false),
        ("refs/remotes/origin/orchestra/task_002", false),
        ("refs/heads/mine", true),
        ("refs/remotes/origin/mine", true),
        ("refs/tags/mine", true),
        ("refs/notes/mine", false),
    ] {
        git(&dir, &["update-ref", name, &mine]);
        let found = lost(&user, &branches(&user)[0]);
        assert_eq!(found == uncommitted, keeps, "{name}");
        git(&dir, &["update-ref", "-d", name]);
    }
    git(&dir, &["tag", "-a", "-m", "signed off", "mine", &mine]);
    // One of something else is in nobody's way.
    git(&dir, &["tag", "tree", &format!("{mine}^{{tree}}")]);
    assert_eq!(look(), uncommitted);
    git(&dir, &["tag", "then", &task_start]);
    assert_eq!(look(), OnlyHere::Agents);
}
