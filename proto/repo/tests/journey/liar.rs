//! Workers that tell one change and send another.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use crate::common::{BRANCH, Task, World, apply, git, import_branch, write};
use orchestra_repo::{ApplyError, Collected, Error};

/// A task with an edited and a new file, and what was honestly collected of it.
fn honest() -> (World, Task, Collected) {
    let user = World::with(&[("a.txt", "one\n"), ("b.txt", "two\n")]);
    let task = user.start();
    task.write("a.txt", "one\nmore\n");
    task.write("new.txt", "new\n");
    let collected = task.collect();
    (user, task, collected)
}

/// The same told of a bundle that was made otherwise: of a clone, with the honest branch checked out.
fn forged(user: &World, honest: &Collected, forge: impl Fn(&Path)) -> Collected {
    let dir = user.tmp.path().join("forge");
    git(user.tmp.path(), &["clone", "-q", "user", "forge"]);
    let bundle = honest.bundle.as_deref().unwrap().to_string_lossy();
    git(&dir, &["fetch", "-q", &bundle, BRANCH]);
    git(&dir, &["checkout", "-q", "-b", BRANCH, "FETCH_HEAD"]);
    forge(&dir);
    let made = user.tmp.path().join("forged.bundle");
    let to = made.to_string_lossy();
    git(
        &dir,
        &["bundle", "create", "-q", &to, BRANCH, "^origin/main"],
    );
    Collected {
        bundle: Some(made.clone()),
        commit: git(&dir, &["rev-parse", "HEAD"]),
        ..honest.clone()
    }
}

fn amend(dir: &Path) {
    git(dir, &["add", "-A"]);
    git(dir, &["commit", "-q", "--amend", "-m", "work"]);
}

/// Neither the files nor a branch come, and the reason has these words.
fn assert_refused(user: &World, task: &Task, collected: &Collected, words: &str) {
    let checkout = user.checkout();
    let change = task.change(collected);
    let applied = apply(&checkout, &change).unwrap_err();
    let imported = import_branch(&checkout, &change, &[]).unwrap_err();
    assert!(
        matches!(&applied, ApplyError::Repo(Error::NotAsTold { what }) if what.contains(words)),
        "{words:?}: {applied}"
    );
    assert_eq!(applied.to_string(), imported.to_string());
    assert_eq!(git(&user.user(), &["status", "--porcelain"]), "", "{words}");
    assert_eq!(git(&user.user(), &["branch", "--list", "orchestra/*"]), "");
}

#[test]
fn a_bundle_that_holds_another_change_than_was_told_is_refused() {
    type Forge = fn(&Path);
    let lies: [(&str, Forge); 7] = [
        ("the content of `new.txt` is another one", |dir| {
            write(dir, "new.txt", "evil\n");
            amend(dir);
        }),
        ("has `evil.sh` (added)", |dir| {
            write(dir, "evil.sh", "rm -rf ~\n");
            amend(dir);
        }),
        ("has `b.txt` (deleted)", |dir| {
            fs::remove_file(dir.join("b.txt")).unwrap();
            amend(dir);
        }),
        ("has `new.txt` (added)", |dir| {
            fs::remove_file(dir.join("new.txt")).unwrap();
            amend(dir);
        }),
        ("`new.txt` has the mode", |dir| {
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(dir.join("new.txt"), mode).unwrap();
            amend(dir);
        }),
        ("`new.txt` has the mode", |dir| {
            fs::remove_file(dir.join("new.txt")).unwrap();
            std::os::unix::fs::symlink("b.txt", dir.join("new.txt")).unwrap();
            amend(dir);
        }),
        ("does not come after", |dir| {
            git(dir, &["checkout", "-q", "--orphan", "other"]);
            git(dir, &["commit", "-q", "-m", "work"]);
            git(dir, &["branch", "-q", "-M", BRANCH]);
        }),
    ];
    for (words, forge) in lies {
        let (user, task, told) = honest();
        let collected = forged(&user, &told, forge);
        assert_refused(&user, &task, &collected, words);
        apply(&user.checkout(), &task.change(&told)).unwrap();
    }
}

#[test]
fn a_branch_with_one_commit_more_than_was_told_is_refused() {
    let (user, task, told) = honest();
    let mut collected = forged(&user, &told, |dir| {
        write(dir, "evil.sh", "rm -rf ~\n");
        git(dir, &["add", "-A"]);
        git(dir, &["commit", "-q", "-m", "hidden"]);
    });
    collected.commit = told.commit;
    assert_refused(&user, &task, &collected, "its branch is the commit");
}

#[test]
fn a_list_or_a_patch_that_tells_less_is_refused() {
    let (user, task, told) = honest();
    let mut collected = told.clone();
    collected.manifest.entries[0].lines_added = Some(0);
    assert_refused(&user, &task, &collected, "`a.txt` has other lines");
    let mut collected = told.clone();
    collected.manifest.entries.pop();
    assert_refused(&user, &task, &collected, "has `new.txt` (added)");

    let forge = user.tmp.path().join("other.patch");
    let patch = |text: &str| {
        fs::write(&forge, text).unwrap();
        Collected {
            patch: forge.clone(),
            ..told.clone()
        }
    };
    let text = fs::read_to_string(&told.patch).unwrap();
    let harmless = patch(&text.replace("+more", "+less"));
    assert_refused(&user, &task, &harmless, "makes something else of `a.txt`");
    let (first, _) = text.split_once("diff --git a/new.txt").unwrap();
    let shorter = patch(first);
    assert_refused(&user, &task, &shorter, "makes something else of `new.txt`");
    assert_refused(
        &user,
        &task,
        &patch("nothing\n"),
        "the patch is none of its change",
    );
    assert_refused(&user, &task, &patch(""), "the patch is none of its change");

    let mut change = task.change(&told);
    change.told.patch = None;
    let error = apply(&user.checkout(), &change).unwrap_err();
    assert!(error.to_string().contains("there is no patch"), "{error}");

    // The right bytes, and nobody can read them.
    let honest = task.workspace.base();
    let dir = user.tmp.path().join("binary");
    git(user.tmp.path(), &["clone", "-q", "user", "binary"]);
    let bundle = told.bundle.as_deref().unwrap().to_string_lossy();
    git(&dir, &["fetch", "-q", &bundle, BRANCH]);
    fs::write(dir.join(".git/info/attributes"), "* binary\n").unwrap();
    let hidden = git(
        &dir,
        &["diff", "--binary", "--full-index", honest, "FETCH_HEAD"],
    );
    let hidden = patch(&(hidden + "\n\n"));
    assert_refused(
        &user,
        &task,
        &hidden,
        "`a.txt` is text, and the patch shows none",
    );
}

#[test]
fn an_honest_change_in_the_words_of_another_git_is_taken() {
    let user = World::with(&[("a.txt", "1\n2\n3\n"), ("old.txt", "x\ny\nz\n")]);
    fs::write(user.user().join("a.bin"), [0, 1, 2, 3]).unwrap();
    user.commit("binary");
    let task = user.start();
    task.write("a.txt", "1\nzwei\n3\n");
    let bytes: Vec<u8> = (0..9000_u32).map(|n| (n * n % 251) as u8).collect();
    fs::write(task.dir().join("a.bin"), &bytes).unwrap();
    fs::rename(task.dir().join("old.txt"), task.dir().join("new.txt")).unwrap();
    let told = task.collect();
    let mut words = Vec::new();
    for how in [
        &["-c", "core.compression=0", "diff", "--find-renames"][..],
        &["diff", "--no-renames", "--unified=1", "--patience"],
    ] {
        let between = [
            "--binary",
            "--full-index",
            task.workspace.base(),
            &told.commit,
        ];
        let dir = user.tmp.path().join("own");
        let patch = git(&dir, &[how, &between].concat()) + "\n\n";
        assert_ne!(patch.as_bytes(), fs::read(&told.patch).unwrap());
        let other = user.tmp.path().join(format!("{}.patch", words.len()));
        fs::write(&other, &patch).unwrap();
        let collected = Collected {
            patch: other,
            ..told.clone()
        };
        apply(&user.checkout(), &task.change(&collected)).unwrap();
        words.push(patch);
    }
    assert_ne!(words[0], words[1]);
    // One that tells a rename as a file that came and one that went.
    let mut collected = told.clone();
    let entries = &mut collected.manifest.entries;
    let renamed = entries.iter().position(|e| e.path == "new.txt").unwrap();
    let came = &mut entries[renamed];
    came.change = orchestra_types::FileChange::Added;
    came.lines_added = Some(3);
    let went = orchestra_types::ManifestEntry {
        path: "old.txt".to_owned(),
        path_quoted: None,
        renamed_from_quoted: None,
        change: orchestra_types::FileChange::Deleted,
        size: 0,
        mode: 0,
        sha256: None,
        lines_added: Some(0),
        lines_removed: Some(3),
        binary: false,
    };
    entries.push(went);
    apply(&user.checkout(), &task.change(&collected)).unwrap();
    assert_eq!(fs::read(user.user().join("a.bin")).unwrap(), bytes);
}

#[test]
fn a_change_that_builds_on_more_than_earlier_results_is_refused() {
    let user = World::with(&[("a.txt", "one\n")]);
    let first = user.start();
    first.write("first.txt", "1\n");
    let first = first.done();
    let snapshot = user.checkout().snapshot().unwrap();
    let second = user.start_after(&snapshot, 2, &[&first]);
    second.write("second.txt", "2\n");
    let honest = second.done();
    assert_eq!(honest.base, first.commit);

    // Its own patch would be as harmless, told from a commit that nobody has seen.
    let (base, dir) = (&second.start, user.tmp.path().join("2/own"));
    let tree = git(&dir, &["rev-parse", &format!("{}^{{tree}}", honest.commit)]);
    let parents = ["-p", base, "-p", &honest.base];
    for (parents, words) in [(&parents[..2], "no result"), (&parents, "no result")] {
        let commit_tree = [&["commit-tree", "-m", "hidden", &tree], parents].concat();
        let hidden = git(&dir, &commit_tree);
        let mut lie = honest.clone();
        lie.base = hidden;
        let error = apply(&user.checkout(), &lie.change(&[])).unwrap_err();
        assert!(error.to_string().contains("does not come after"), "{error}");
        let args = ["commit-tree", "-m", "tip", &tree, "-p", &lie.base];
        lie.commit = git(&dir, &args);
        let full = format!("refs/heads/{}", lie.branch);
        git(&dir, &["update-ref", &full, &lie.commit]);
        let made = user.tmp.path().join("hidden.bundle");
        let (to, not) = (made.to_string_lossy(), format!("^{base}"));
        git(&dir, &["bundle", "create", "-q", &to, &full, &not]);
        lie.bundle = Some(made.clone());
        (lie.manifest, lie.patch) = (Default::default(), user.tmp.path().join("empty"));
        fs::write(&lie.patch, "").unwrap();
        let error = apply(&user.checkout(), &lie.change(&[])).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(git(&user.user(), &["status", "--porcelain"]), "");
    }
    honest.apply(&user, &[]).unwrap();
}
