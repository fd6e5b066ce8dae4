//! The way of a change: from the user's checkout to an agent and back.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use crate::common::{BRANCH, World, apply, git, import_branch, rows};
use orchestra_repo::{ApplyError, Bundled, Checkout, Error, project_ref};

#[test]
fn a_change_comes_back_as_manifest_patch_branch_and_files() {
    let user = World::with(&[
        ("a.txt", "one\ntwo\n"),
        ("b.txt", "keep\n"),
        ("c.txt", "bye\n"),
    ]);
    let task = user.start();
    task.write("a.txt", "one\nthree\nfour\n");
    task.write("new/file.txt", "hello\n");
    fs::remove_file(task.dir().join("c.txt")).unwrap();
    let collected = task.collect();
    let expected = [
        ("a.txt", "modified", Some(2), Some(1)),
        ("c.txt", "deleted", Some(0), Some(1)),
        ("new/file.txt", "added", Some(1), Some(0)),
    ];
    assert_eq!(
        rows(&collected),
        expected.map(|(p, c, a, r)| (p.to_owned(), c, a, r))
    );
    assert!(
        collected.manifest.warnings.is_empty(),
        "{:?}",
        collected.manifest.warnings
    );
    let checkout = user.checkout();
    let applied = apply(&checkout, &task.change(&collected)).unwrap();
    assert_eq!((applied.files, applied.already), (3, false));
    assert_eq!(
        fs::read_to_string(user.user().join("a.txt")).unwrap(),
        "one\nthree\nfour\n"
    );
    assert!(!user.user().join("c.txt").exists());
    assert_eq!(
        git(&user.user(), &["diff", "--cached", "--name-only"]),
        "",
        "the index is the user's"
    );
    let again = apply(&checkout, &task.change(&collected)).unwrap();
    assert_eq!((again.files, again.already), (3, true), "it is no error");
    import_branch(&checkout, &task.change(&collected), &[]).unwrap();
    assert_eq!(git(&user.user(), &["rev-parse", BRANCH]), collected.commit);
    git(&user.user(), &["stash", "-q", "-u"]);
    git(&user.user(), &["apply", collected.patch.to_str().unwrap()]);
    assert_eq!(
        git(&user.user(), &["status", "--porcelain"]),
        " M a.txt\n D c.txt\n?? new/"
    );
}

#[test]
fn a_directory_in_the_place_of_a_link_that_moved_can_be_applied_by_plain_git() {
    let world = World::with(&[("a.txt", "one\n")]);
    std::os::unix::fs::symlink("a.txt", world.user().join("link")).unwrap();
    world.commit("a link");
    let task = world.start();
    fs::rename(task.dir().join("link"), task.dir().join("moved")).unwrap();
    task.write("link/inside", "new\n");
    let collected = task.collect();
    let renamed = |e: &orchestra_types::ManifestEntry| e.change.as_str() == "renamed";
    assert!(collected.manifest.entries.iter().any(renamed));
    let patch = collected.patch.to_string_lossy().into_owned();
    git(&world.user(), &["apply", &patch]);
    let moved = fs::read_link(world.user().join("moved")).unwrap();
    assert_eq!(moved, std::path::Path::new("a.txt"));
    assert_eq!(
        fs::read(world.user().join("link/inside")).unwrap(),
        b"new\n"
    );
}

#[test]
fn nothing_changed_gives_no_bundle_and_an_empty_patch() {
    let user = World::with(&[("a.txt", "one\n")]);
    let task = user.start();
    let collected = task.collect();
    assert!(collected.manifest.entries.is_empty());
    assert_eq!(collected.bundle, None);
    assert_eq!(fs::metadata(&collected.patch).unwrap().len(), 0);
}

#[test]
fn a_snapshot_carries_uncommitted_and_untracked_files_and_touches_nothing() {
    let user = World::with(&[("a.txt", "one\n"), (".gitignore", "*.log\n")]);
    user.write("a.txt", "edited\n");
    user.write("new.txt", "new\n");
    user.write("x.log", "ignored\n");
    user.write("context/current_state.md", "ours\n");
    let before = (
        git(&user.user(), &["status", "--porcelain"]),
        git(&user.user(), &["count-objects"]),
    );
    let checkout = user.checkout().exclude(&["context"]);
    let snapshot = checkout.snapshot().unwrap();
    assert!(snapshot.dirty);
    assert_eq!(Some(snapshot.head.as_str()), checkout.head());
    assert_eq!(snapshot.branch, "main");
    assert_eq!(
        checkout.snapshot().unwrap().commit,
        snapshot.commit,
        "the same files, the same commit"
    );
    let after = (
        git(&user.user(), &["status", "--porcelain"]),
        git(&user.user(), &["count-objects"]),
    );
    assert_eq!(before, after);
    let task = user.start_from(&snapshot);
    assert_eq!(
        fs::read_to_string(task.dir().join("a.txt")).unwrap(),
        "edited\n"
    );
    assert_eq!(
        fs::read_to_string(task.dir().join("new.txt")).unwrap(),
        "new\n"
    );
    assert!(!task.dir().join("x.log").exists() && !task.dir().join("context").exists());
    assert_eq!(
        git(task.dir(), &["status", "--porcelain"]),
        "",
        "the agent's git agrees"
    );
    assert_eq!(git(task.dir(), &["branch", "--show-current"]), BRANCH);
}

#[test]
fn a_clean_snapshot_is_head_and_needs_no_second_bundle() {
    let user = World::with(&[("a.txt", "one\n")]);
    let snapshot = user.checkout().snapshot().unwrap();
    assert!(!snapshot.dirty);
    assert_eq!(snapshot.commit, git(&user.user(), &["rev-parse", "HEAD"]));
    let to = user.tmp.path().join("b");
    assert_eq!(
        snapshot
            .bundle(std::slice::from_ref(&snapshot.commit), &to)
            .unwrap(),
        Bundled::Nothing
    );
    assert_eq!(
        snapshot.bundle(&["0".repeat(40)], &to).unwrap(),
        Bundled::Written
    );
}

#[test]
fn a_repository_without_a_commit_works_too() {
    let user = World::without_commit();
    user.write("a.txt", "one\n");
    let task = user.start();
    task.write("b.txt", "two\n");
    let collected = task.collect();
    assert_eq!(
        rows(&collected),
        [("b.txt".to_owned(), "added", Some(1), Some(0))]
    );
    apply(&user.checkout(), &task.change(&collected)).unwrap();
    assert_eq!(
        fs::read_to_string(user.user().join("b.txt")).unwrap(),
        "two\n"
    );
}

#[test]
fn a_change_is_merged_with_commits_that_came_since() {
    let user = World::with(&[("a.txt", "1\n2\n3\n4\n5\n6\n7\n")]);
    let task = user.start();
    task.write("a.txt", "1\n2\n3\n4\n5\n6\nagent\n");
    let collected = task.collect();
    user.write("a.txt", "user\n2\n3\n4\n5\n6\n7\n");
    user.commit("later");
    apply(&user.checkout(), &task.change(&collected)).unwrap();
    let text = fs::read_to_string(user.user().join("a.txt")).unwrap();
    assert_eq!(text, "user\n2\n3\n4\n5\n6\nagent\n");
}

#[test]
fn a_conflict_names_the_file_and_touches_nothing() {
    let user = World::with(&[("a.txt", "one\n")]);
    let task = user.start();
    task.write("a.txt", "agent\n");
    task.write("b.txt", "agent\n");
    let collected = task.collect();
    user.write("a.txt", "user\n");
    user.commit("later");
    let error = apply(&user.checkout(), &task.change(&collected)).unwrap_err();
    assert!(
        matches!(&error, ApplyError::Conflict { paths, .. } if paths == &["a.txt"]),
        "{error}"
    );
    let said = "the change conflicts with what the checkout has now in `a.txt`";
    assert_eq!(error.to_string(), said);
    assert!(!user.user().join("b.txt").exists());
    assert_eq!(git(&user.user(), &["status", "--porcelain"]), "");
}

#[test]
fn a_change_that_was_merged_by_hand_is_there_however_the_conflict_was_settled() {
    let user = World::with(&[("a.txt", "one\n")]);
    let task = user.start();
    task.write("a.txt", "agent\n");
    let collected = task.collect();
    user.write("a.txt", "user\n");
    user.commit("later");
    let change = task.change(&collected);
    apply(&user.checkout(), &change).unwrap_err();
    import_branch(&user.checkout(), &change, &[]).unwrap();
    let merge = ["merge", "-q", "-s", "ours", "--no-edit", BRANCH];
    git(&user.user(), &merge);
    user.write("a.txt", "both\n");
    user.commit("settled");
    for edited in [false, true] {
        if edited {
            user.write("a.txt", "and more\n");
        }
        let applied = apply(&user.checkout(), &change).unwrap();
        assert!(applied.already && applied.files == 0, "{applied:?}");
    }
    let text = fs::read_to_string(user.user().join("a.txt")).unwrap();
    assert_eq!(text, "and more\n");
}

#[test]
fn nothing_is_written_over_what_is_not_committed() {
    type Spoil = fn(&World);
    let spoils: [(&str, Spoil); 5] = [
        ("edited", |u| u.write("a.txt", "user\n")),
        ("staged", |u| {
            u.write("a.txt", "user\n");
            git(&u.user(), &["add", "a.txt"]);
            u.write("a.txt", "one\n");
        }),
        ("untracked", |u| u.write("new.txt", "user\n")),
        ("ignored", |u| u.write("out.log", "user\n")),
        ("link", |u| symlink("/tmp", u.user().join("dir")).unwrap()),
    ];
    for (name, spoil) in spoils {
        let user = World::with(&[
            ("a.txt", "one\n"),
            ("z.txt", "z\n"),
            (".gitignore", "*.log\n"),
        ]);
        let task = user.start();
        for file in ["a.txt", "new.txt", "dir/x.txt", "z.txt"] {
            task.write(file, "agent\n");
        }
        git(task.dir(), &["add", "-A"]);
        task.write("out.log", "agent\n");
        git(task.dir(), &["add", "-f", "out.log"]);
        git(task.dir(), &["commit", "-qm", "work"]);
        let collected = task.collect();
        spoil(&user);
        let error = apply(&user.checkout(), &task.change(&collected)).unwrap_err();
        assert!(
            matches!(error, ApplyError::InTheWay { .. }),
            "{name}: {error}"
        );
        assert_eq!(
            fs::read_to_string(user.user().join("z.txt")).unwrap(),
            "z\n",
            "{name}"
        );
        assert!(!fs::exists("/tmp/x.txt").unwrap());
    }
}

#[test]
fn a_file_may_become_a_directory_and_back() {
    let user = World::with(&[("thing", "file\n"), ("dir/a", "a\n"), ("dir/b", "b\n")]);
    let task = user.start();
    fs::remove_file(task.dir().join("thing")).unwrap();
    task.write("thing/inner", "x\n");
    fs::remove_dir_all(task.dir().join("dir")).unwrap();
    task.write("dir", "now a file\n");
    let collected = task.collect();
    apply(&user.checkout(), &task.change(&collected)).unwrap();
    assert_eq!(
        fs::read_to_string(user.user().join("thing/inner")).unwrap(),
        "x\n"
    );
    assert_eq!(
        fs::read_to_string(user.user().join("dir")).unwrap(),
        "now a file\n"
    );
}

#[test]
fn projects_are_known_by_their_first_commit_or_their_place() {
    let user = World::with(&[("sub/a.txt", "one\n")]);
    let machine = "m1".parse().unwrap();
    let root = git(&user.user(), &["rev-parse", "HEAD"]);
    user.write("b", "b");
    user.commit("second");
    let project = project_ref(&user.user().join("sub"), &machine).unwrap();
    assert_eq!(project.id.as_str(), format!("git-{}", &root[..16]));
    assert_eq!(
        (project.name.as_str(), project.dir),
        ("user", user.checkout().top().to_owned())
    );
    let plain = tempfile::tempdir().unwrap();
    assert!(Checkout::discover(plain.path()).unwrap().is_none());
    let project = project_ref(plain.path(), &machine).unwrap();
    assert!(project.id.as_str().starts_with("dir-"));
    assert_ne!(
        project.id,
        project_ref(plain.path(), &"m2".parse().unwrap())
            .unwrap()
            .id
    );
}

#[test]
fn a_git_directory_is_told_from_what_is_in_a_work_tree_and_what_is_in_none() {
    let user = World::with(&[("sub/a.txt", "one\n")]);
    let (top, tmp) = (user.user(), user.tmp.path());
    git(&top, &["clone", "-q", "--bare", ".", "../bare.git"]);
    git(&top, &["worktree", "add", "-q", "../bare.git/inside"]);
    // A directory of work trees, beside a repository that is bare.
    git(&top, &["clone", "-q", "--bare", ".", "../trees/.bare"]);
    fs::write(tmp.join("trees/.git"), "gitdir: ./.bare\n").unwrap();
    fs::create_dir_all(tmp.join("plain/refs")).unwrap();
    let is = |dir: &str| Checkout::is_git_directory(&tmp.join(dir)).unwrap();
    let own = [
        "user/.git",
        "user/.git/refs",
        "user/.git/worktrees/inside",
        "bare.git",
        "bare.git/refs",
        "trees",
        "trees/.bare",
    ];
    assert_eq!(own.map(is), [true; 7]);
    let others = ["user", "user/sub", "bare.git/inside", "plain", "plain/refs"];
    assert_eq!(others.map(is), [false; 5]);
    fs::write(top.join(".git/HEAD"), "damaged").unwrap();
    fs::write(tmp.join("bare.git/HEAD"), "damaged").unwrap();
    assert!(is("user/.git") && is("user/.git/refs") && is("bare.git"));
}

#[test]
fn a_file_keeps_its_mode_when_another_version_takes_its_place() {
    let mode = |user: &World, name: &str| {
        fs::metadata(user.user().join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    let chmod =
        |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let names = ["secret", "read-only", "tool", "becomes-tool", "was-tool"];
    let user = World::without_commit();
    for (name, mode) in names.iter().zip([0o600, 0o400, 0o700, 0o640, 0o750]) {
        user.write(name, "one\n");
        chmod(&user.user().join(name), mode);
    }
    user.commit("first");
    let task = user.start();
    for name in names {
        task.write(name, "two\n");
    }
    task.write("new", "two\n");
    chmod(&task.dir().join("becomes-tool"), 0o755);
    chmod(&task.dir().join("was-tool"), 0o644);
    let collected = task.collect();
    apply(&user.checkout(), &task.change(&collected)).unwrap();
    let modes = names.map(|name| mode(&user, name));
    assert_eq!(modes, [0o600, 0o400, 0o700, 0o750, 0o640]);
    for name in names {
        assert_eq!(fs::read_to_string(user.user().join(name)).unwrap(), "two\n");
    }
    let fresh = user.user().join("fresh");
    fs::write(&fresh, "").unwrap();
    assert_eq!(mode(&user, "new"), mode(&user, "fresh"));
}

#[test]
fn what_a_killed_apply_has_left_is_removed_by_the_next_one() {
    let user = World::with(&[("a.txt", "one\n")]);
    let task = user.start();
    task.write("a.txt", "two\n");
    let collected = task.collect();
    let at = |name: &str| user.user().join(".git").join(name);
    for name in [".orchestra-apply-abc123", ".orchestra-kept-abc123"] {
        fs::create_dir_all(at(name).join("new/sub")).unwrap();
        fs::write(at(name).join("new/sub/a.txt"), "zero\n").unwrap();
    }
    apply(&user.checkout(), &task.change(&collected)).unwrap();
    assert!(!at(".orchestra-apply-abc123").exists());
    assert!(at(".orchestra-kept-abc123/new/sub/a.txt").exists());
    let left = fs::read_dir(user.user().join(".git")).unwrap().flatten();
    let left = left.filter(|entry| {
        entry
            .file_name()
            .to_string_lossy()
            .starts_with(".orchestra-apply")
    });
    assert_eq!(left.count(), 0);
}

#[test]
fn the_context_directory_is_kept_out_of_git_once() {
    let user = World::with(&[("a.txt", "one\n")]);
    let linked = user.tmp.path().join("linked");
    git(
        &user.user(),
        &["worktree", "add", "-q", linked.to_str().unwrap()],
    );
    let checkout = Checkout::discover(&linked).unwrap().unwrap();
    checkout.exclude_from_git("context").unwrap();
    checkout.exclude_from_git("context").unwrap();
    user.write("context/current_state.md", "x");
    user.write("context/agent_outputs/task_001_output.md", "x");
    let text = fs::read_to_string(user.user().join(".git/info/exclude")).unwrap();
    assert_eq!(text.matches("/context/agent_outputs\n").count(), 1);
    assert_eq!(git(&user.user(), &["status", "--porcelain"]), "");
    user.write("context/mine.txt", "x");
    let status = git(&user.user(), &["status", "--porcelain", "-uall"]);
    assert_eq!(status, "?? context/mine.txt", "what is not ours is seen");
    fs::remove_file(user.user().join("context/mine.txt")).unwrap();
    fs::write(linked.join("n"), "n").unwrap();
    assert!(
        checkout.snapshot().unwrap().dirty,
        "a linked worktree has snapshots too"
    );
}

/// A clone of `origin` with `how`, as a user's repository.
fn clone_of(origin: &World, how: &[&str]) -> World {
    let user = World {
        tmp: tempfile::tempdir().unwrap(),
    };
    let url = format!("file://{}", origin.user().display());
    let args = [&["clone", "-q"], how, &[&url, "user"]].concat();
    git(user.tmp.path(), &args);
    user
}

#[test]
fn a_partial_clone_gives_its_files_and_takes_the_change() {
    let origin = World::with(&[("a.txt", "one\n")]);
    git(
        &origin.user(),
        &["config", "uploadpack.allowFilter", "true"],
    );
    origin.write("a.txt", "two\n");
    origin.commit("second");
    let user = clone_of(&origin, &["--filter=blob:none"]);
    user.write("b.txt", "new\n");
    let snapshot = user.checkout().snapshot().unwrap();
    let told = ["the clone is partial: agents get its files without history"];
    assert_eq!(
        (snapshot.head.as_str(), &snapshot.warnings[..]),
        ("", &told.map(str::to_owned)[..])
    );
    let task = user.start_from(&snapshot);
    task.write("a.txt", "three\n");
    apply(&user.checkout(), &task.change(&task.collect())).unwrap();
    let applied = fs::read_to_string(user.user().join("a.txt")).unwrap();
    assert_eq!(applied, "three\n");
}

#[test]
fn a_partial_clone_without_all_of_its_files_says_how_to_get_them() {
    let origin = World::with(&[("a.txt", "one\n"), ("far/b.txt", "two\n")]);
    git(
        &origin.user(),
        &["config", "uploadpack.allowFilter", "true"],
    );
    let user = clone_of(&origin, &["--filter=blob:none", "--sparse"]);
    let bundle = user.tmp.path().join("bundle");
    let refused = user.checkout().snapshot().unwrap().bundle(&[], &bundle);
    let says = refused.unwrap_err().to_string();
    assert!(says.contains("`git fetch --refetch --no-filter`"), "{says}");
    git(&user.user(), &["fetch", "-q", "--refetch", "--no-filter"]);
    let snapshot = user.checkout().snapshot().unwrap();
    snapshot.bundle(&[], &bundle).unwrap();
}

#[test]
fn a_partial_clone_that_was_never_checked_out_says_why_it_takes_no_change() {
    for filter in ["--filter=blob:none", "--filter=tree:0"] {
        let origin = World::with(&[("a.txt", "one\n"), ("far/b.txt", "two\n")]);
        git(
            &origin.user(),
            &["config", "uploadpack.allowFilter", "true"],
        );
        let user = clone_of(&origin, &[filter, "--no-checkout"]);
        let task = user.start();
        task.write("c.txt", "new\n");
        let refused = apply(&user.checkout(), &task.change(&task.collect())).unwrap_err();
        let is_partial = matches!(&refused, ApplyError::Repo(Error::PartialClone));
        assert!(is_partial, "{filter}: {refused}");
        assert!(!user.user().join("c.txt").exists());
    }
}

#[test]
fn a_shallow_clone_gives_its_files_and_takes_the_change() {
    let origin = World::with(&[("a.txt", "one\n")]);
    origin.write("a.txt", "two\n");
    origin.commit("second");
    let user = clone_of(&origin, &["--depth", "1"]);
    let checkout = user.checkout();
    let project = project_ref(checkout.top(), &"m1".parse().unwrap()).unwrap();
    assert!(
        project.id.as_str().starts_with("dir-"),
        "its first commit is not known"
    );
    let snapshot = checkout.snapshot().unwrap();
    assert_eq!((snapshot.head.as_str(), snapshot.warnings.len()), ("", 1));
    let task = user.start_from(&snapshot);
    task.write("a.txt", "three\n");
    let collected = task.collect();
    apply(&checkout, &task.change(&collected)).unwrap();
    assert_eq!(
        fs::read_to_string(user.user().join("a.txt")).unwrap(),
        "three\n"
    );
    // The branch has no history in common with the user's: its commits are picked, not merged.
    assert_eq!(checkout.lacks_history(), Some("shallow"));
    import_branch(&checkout, &task.change(&collected), &[]).unwrap();
    git(&user.user(), &["reset", "-q", "--hard"]);
    let range = format!("{}..{BRANCH}", snapshot.commit);
    git(&user.user(), &["cherry-pick", &range]);
    assert_eq!(
        fs::read_to_string(user.user().join("a.txt")).unwrap(),
        "three\n"
    );
}

#[test]
fn repositories_inside_a_repository_are_told_apart() {
    let inner = World::with(&[("lib.txt", "lib\n")]);
    let user = World::with(&[("a.txt", "one\n")]);
    let url = inner.user();
    let add = [
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "add",
        "-q",
        url.to_str().unwrap(),
        "lib",
    ];
    git(&user.user(), &add);
    user.commit("with a submodule");
    git(&user.user(), &["init", "-q", "scratch"]);
    user.write("scratch/note.txt", "x\n");
    user.write("b.txt", "two\n");
    let snapshot = user.checkout().snapshot().unwrap();
    assert!(
        snapshot.warnings[0].contains("`scratch`"),
        "{:?}",
        snapshot.warnings
    );
    let task = user.start_from(&snapshot);
    assert!(task.dir().join("b.txt").exists() && !task.dir().join("scratch").exists());
    task.write("c.txt", "three\n");
    let collected = task.collect();
    assert_eq!(
        rows(&collected),
        [("c.txt".to_owned(), "added", Some(1), Some(0))]
    );
    apply(&user.checkout(), &task.change(&collected)).unwrap();
    let sub = Checkout::discover(&user.user().join("lib"))
        .unwrap()
        .unwrap();
    assert_eq!(sub.top(), user.checkout().top().join("lib"));
    user.write("lib/new.txt", "new\n");
    assert!(sub.snapshot().unwrap().dirty);
}

#[test]
fn filters_of_the_user_hold_in_a_snapshot() {
    let user = World::with(&[
        ("secret.txt", "HIDDEN\n"),
        (".gitattributes", "secret.txt filter=hide\n"),
    ]);
    git(&user.user(), &["config", "filter.hide.clean", "tr a-z A-Z"]);
    user.write("secret.txt", "plain\n");
    let task = user.start();
    assert_eq!(
        fs::read_to_string(task.dir().join("secret.txt")).unwrap(),
        "PLAIN\n"
    );
}

#[test]
fn changes_are_written_one_at_a_time() {
    let user = World::with(&[("a.txt", "one\n")]);
    let task = user.start();
    for n in 0..40 {
        task.write(&format!("{n}.txt"), "agent\n");
    }
    let collected = task.collect();
    std::thread::scope(|scope| {
        let run = || apply(&user.checkout(), &task.change(&collected)).map(|applied| applied.files);
        let all: Vec<_> = (0..6).map(|_| scope.spawn(run)).collect();
        for one in all {
            assert_eq!(one.join().unwrap().unwrap(), 40);
        }
    });
}

#[test]
fn submodules_and_pointers_of_git_lfs_are_named() {
    let world = World::with(&[("a.txt", "one\n")]);
    let pointer = |n: u32| {
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{n:064x}\nsize 12345\n")
    };
    world.write(
        ".gitattributes",
        "*.bin filter=lfs diff=lfs merge=lfs -text\n",
    );
    for n in 0..7 {
        world.write(&format!("{n}.bin"), &pointer(n));
    }
    let other = World::with(&[("b.txt", "two\n")]);
    let from = other.user();
    let add = ["-c", "protocol.file.allow=always", "submodule", "add", "-q"];
    let args = [&add[..], &[from.to_str().unwrap(), "vendor/other"]].concat();
    git(&world.user(), &args);
    world.commit("with both");
    // Changed here: an agent gets what it is.
    world.write("6.bin", &"content\n".repeat(1000));

    let warnings = world.checkout().snapshot().unwrap().warnings;
    let expected = [
        "`vendor/other` is a submodule: agents get an empty directory",
        "agents get the pointers of 6 files in Git LFS instead of what is in them: \
         `0.bin`, `1.bin`, `2.bin`, `3.bin`, `4.bin` and 1 more",
    ];
    assert_eq!(warnings, expected);
}
