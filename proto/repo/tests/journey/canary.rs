//! An agent plants programs wherever plain git would start them. None of them runs as the worker or
//! as the user, and nothing outside of the workspace is read or written; plain git in the same
//! directory shows that the traps were live.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::common::{Task, World, apply, git, import_branch, write};
use orchestra_repo::Workspace;

/// Configuration that starts a program; the part of its name after the last `/` is the canary's.
const CONFIG: &[&str] = &[
    "core.fsmonitor",
    "core.pager",
    "core.editor",
    "core.sshCommand",
    "core.gitProxy",
    "core.askPass",
    "core.alternateRefsCommand",
    "credential.helper",
    "diff.external",
    "diff.x.textconv",
    "diff.x.command",
    "filter.x.clean",
    "filter.x.smudge",
    "filter.p.process",
    "gpg.program",
    "interactive.diffFilter",
    "merge.x.driver",
    "pack.packObjectsHook",
    "remote.origin.receivepack",
    "remote.origin.uploadpack",
    "sequence.editor",
    "trailer.x.command",
    "uploadpack.packObjectsHook",
];

const HOOKS: &[&str] = &[
    "applypatch-msg",
    "commit-msg",
    "fsmonitor-watchman",
    "post-applypatch",
    "post-checkout",
    "post-commit",
    "post-index-change",
    "post-merge",
    "post-rewrite",
    "post-update",
    "pre-applypatch",
    "pre-auto-gc",
    "pre-commit",
    "pre-merge-commit",
    "pre-push",
    "pre-rebase",
    "pre-receive",
    "prepare-commit-msg",
    "proc-receive",
    "push-to-checkout",
    "reference-transaction",
    "sendemail-validate",
    "update",
];

/// What plain git must fire for this to prove anything. The others wait for commands that the
/// control does not run, such as a push over a network.
const LIVE: &[&str] = &[
    "commit-msg",
    "core.alternateRefsCommand",
    "core.editor",
    "core.fsmonitor",
    "core.sshCommand",
    "diff.external",
    "diff.x.textconv",
    "filter.p.process",
    "filter.x.clean",
    "filter.x.smudge",
    "gpg.program",
    "include",
    "info-attributes",
    "merge.x.driver",
    "nested",
    "post-checkout",
    "post-commit",
    "post-index-change",
    "post-rewrite",
    "pre-commit",
    "prepare-commit-msg",
    "reference-transaction",
    "submodule",
    "worktree-config",
];

/// Programs that write down that they ran.
struct Canaries {
    dir: PathBuf,
}

impl Canaries {
    fn new(user: &World) -> Self {
        let dir = user.tmp.path().join("canaries");
        fs::create_dir(&dir).unwrap();
        Self { dir }
    }

    /// The path of a program of this name.
    fn program(&self, name: &str) -> String {
        let path = self.dir.join(name);
        // What git talks to must not wait for more, and a filter must give what it was given.
        let rest = if name.starts_with("filter") {
            "cat"
        } else {
            ""
        };
        let text = format!("#!/bin/sh\ntouch '{}.fired'\n{rest}\n", path.display());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn fired(&self) -> BTreeSet<String> {
        let names = fs::read_dir(&self.dir).unwrap().map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(".fired").map(str::to_owned)
        });
        names.flatten().collect()
    }

    /// Puts one everywhere that an agent can reach in its workspace.
    fn plant(&self, user: &World, dir: &Path) {
        let set = |key: &str, value: &str| drop(git(dir, &["config", key, value]));
        self.plant_includes(dir);
        for key in CONFIG {
            set(key, &self.program(key));
        }
        for (key, value) in [
            ("commit.gpgSign", "true"),
            ("core.fsmonitorHookVersion", "2"),
            ("filter.p.required", "true"),
            ("remote.origin.promisor", "true"),
            ("remote.origin.url", "ssh://host.invalid/x"),
            ("extensions.partialClone", "origin"),
            ("protocol.ext.allow", "always"),
        ] {
            set(key, value);
        }
        let hooks = dir.join(".git/hooks");
        fs::create_dir_all(&hooks).unwrap();
        for hook in HOOKS {
            fs::copy(self.program(hook), hooks.join(hook)).unwrap();
        }
        set("core.hooksPath", hooks.to_str().unwrap());
        self.plant_nested(dir);
        self.plant_alternates(user, dir);
        write(dir, ".git/info/attributes", "*.info filter=info\n");
        set("filter.info.clean", &self.program("info-attributes"));
        let attributes = "*.p filter=p\n*.wt filter=wt\n*.txt filter=x diff=x merge=x\n*.u ident working-tree-encoding=UTF-16\n";
        write(dir, ".gitattributes", attributes);
    }

    /// Configuration in other files than `.git/config`.
    fn plant_includes(&self, dir: &Path) {
        let alias = format!("[alias]\n\tinclude = !{}\n", self.program("include"));
        write(dir, "included", &alias);
        git(dir, &["config", "include.path", "../included"]);
        git(dir, &["config", "includeIf.gitdir:/**.path", "../included"]);
        git(dir, &["config", "extensions.worktreeConfig", "true"]);
        let filter = self.program("worktree-config");
        let text = format!("[filter \"wt\"]\n\tclean = {filter}\n");
        write(dir, ".git/config.worktree", &text);
    }

    /// Repositories in the work tree: an ordinary one, a bare one, one that points elsewhere, and
    /// a submodule whose settings name a program.
    fn plant_nested(&self, dir: &Path) {
        let inner = dir.join("inner");
        fs::create_dir(&inner).unwrap();
        git(&inner, &["init", "-q"]);
        write(&inner, "file.txt", "inner\n");
        git(&inner, &["add", "-A"]);
        git(&inner, &["commit", "-qm", "inner"]);
        git(
            &inner,
            &["config", "core.fsmonitor", &self.program("nested")],
        );
        let bare = dir.join("bare.d");
        fs::create_dir(&bare).unwrap();
        git(&bare, &["init", "-q", "--bare"]);
        git(&bare, &["config", "core.fsmonitor", &self.program("bare")]);
        write(dir, "pointer/.git", "gitdir: ../inner/.git\n");
        write(dir, "pointer/file.txt", "pointer\n");
        let update = format!("!{}", self.program("submodule"));
        git(dir, &["config", "submodule.inner.update", &update]);
        git(
            dir,
            &["config", "submodule.inner.url", inner.to_str().unwrap()],
        );
        git(dir, &["config", "submodule.inner.active", "true"]);
        let module = "[submodule \"inner\"]\n\tpath = inner\n\turl = ./inner\n";
        write(dir, ".gitmodules", module);
    }

    /// Objects lent from a repository outside, which has a file of its own to tell.
    fn plant_alternates(&self, user: &World, dir: &Path) {
        let other = user.tmp.path().join("other");
        fs::create_dir(&other).unwrap();
        git(&other, &["init", "-q"]);
        write(&other, "secret.txt", "SECRET of another project\n");
        git(&other, &["add", "-A"]);
        git(&other, &["commit", "-qm", "secret"]);
        let file = dir.join(".git/objects/info/alternates");
        let mut text = fs::read_to_string(&file).unwrap();
        text.push_str(&format!("{}\n", other.join(".git/objects").display()));
        fs::write(&file, text).unwrap();
    }
}

#[test]
fn no_program_that_an_agent_planted_runs_as_the_worker_or_the_user() {
    let user = World::with(&[("a.txt", "one\n"), ("sub/b.txt", "two\n"), ("plain", "p\n")]);
    let task = user.start();
    let canaries = Canaries::new(&user);
    canaries.plant(&user, task.dir());
    for name in ["a.txt", "plain", "new.p", "new.info", "new.wt", "sub/new.u"] {
        task.write(name, "changed\n");
    }
    let collected = task.collect();
    assert!(collected.manifest.entries.len() > 8);
    let git_dir = user.tmp.path().join("own");
    let again = Workspace::open(task.dir(), &git_dir).unwrap();
    again.carry_on(&collected.commit).unwrap();
    task.collect();
    let checkout = user.checkout();
    import_branch(&checkout, &task.change(&collected), &[]).unwrap();
    apply(&checkout, &task.change(&collected)).unwrap();
    checkout.snapshot().unwrap();
    assert_eq!(canaries.fired(), BTreeSet::new());
    assert_eq!(
        fs::read(user.user().join("sub/new.u")).unwrap().len(),
        18,
        "UTF-16, as the attributes say"
    );
    plain_git(task.dir());
    let fired = canaries.fired();
    let dead: Vec<_> = LIVE.iter().filter(|n| !fired.contains(**n)).collect();
    assert!(
        dead.is_empty(),
        "traps that were not live: {dead:?}; live: {fired:?}"
    );
}

/// What anybody might call in the directory; how it ends does not matter.
fn plain_git(dir: &Path) {
    let commands: &[&[&str]] = &[
        &["include"],
        &["status"],
        &["diff"],
        &["diff", "--no-ext-diff", "--textconv", "HEAD"],
        &["add", "new.info", "sub"],
        &["add", "new.p"],
        &["add", "new.wt"],
        &["diff", "HEAD"],
        &["-c", "commit.gpgSign=false", "commit", "-m", "one"],
        &["commit", "--allow-empty", "-m", "signed"],
        &["-c", "commit.gpgSign=false", "commit", "--amend"],
        &["log", "-p", "-1"],
        &["checkout", "-f", "-b", "side", "HEAD~1"],
        &["stash"],
        &["merge", "-"],
        &["fetch", "origin"],
        &["fetch", "./inner"],
        &["push", "origin", "HEAD"],
        &["-C", "inner", "status"],
        &["gc", "--auto"],
        &["fsck"],
    ];
    let run = |args: &[&str]| {
        let mut git = Command::new("timeout");
        git.args(["60", "git"])
            .current_dir(dir)
            .args(["-c", "user.name=U", "-c", "user.email=u@example.org"])
            .args(args)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let _status = git.status().unwrap();
    };
    commands.iter().for_each(|args| run(args));
    conflict(dir, &run);
    let inner = git(&dir.join("inner"), &["rev-parse", "HEAD"]);
    let entry = format!("160000,{inner},inner");
    run(&["update-index", "--add", "--cacheinfo", &entry]);
    git(
        &dir.join("inner"),
        &["commit", "-q", "--allow-empty", "-m", "on"],
    );
    run(&["submodule", "update"]);
}

/// Two sides that change one line, for the merge driver.
fn conflict(dir: &Path, run: &impl Fn(&[&str])) {
    let options = [
        "-c",
        "commit.gpgSign=false",
        "-c",
        "filter.x.clean=",
        "-c",
        "filter.x.smudge=",
    ];
    let quiet = |args: &[&str]| run(&[&options[..], args].concat());
    for (branch, text) in [("left", "left\n"), ("right", "right\n")] {
        quiet(&["checkout", "-f", "-B", branch, "orchestra/task_001"]);
        write(dir, "sub/b.txt", text);
        quiet(&["commit", "-am", branch]);
    }
    quiet(&["merge", "left"]);
}

/// A directory that the user's repository knows as a submodule: git would ask the repository in there
/// whether it is dirty.
#[test]
fn no_git_works_in_the_submodule_that_an_agent_filled() {
    let user = World::with(&[("a.txt", "one\n")]);
    let other = World::with(&[("b.txt", "two\n")]);
    let add = ["-c", "protocol.file.allow=always", "submodule", "add", "-q"];
    let from = other.user();
    let args = [&add[..], &[from.to_str().unwrap(), "inner"]].concat();
    git(&user.user(), &args);
    user.commit("with a submodule");
    let task = user.start();
    let canaries = Canaries::new(&user);
    let inner = task.dir().join("inner");
    // At the commit that is expected there: git asks no other.
    git(&inner, &["clone", "-q", from.to_str().unwrap(), "."]);
    // As long as before, so that git has to read it.
    write(&inner, "b.txt", "owt\n");
    let filter = canaries.program("filter");
    git(&inner, &["config", "filter.x.clean", &filter]);
    write(&inner, ".gitattributes", "*.txt filter=x\n");
    task.write("a.txt", "changed\n");
    let workspace = Workspace::open(task.dir(), &user.tmp.path().join("own")).unwrap();
    workspace.look(&[], &[]).unwrap();
    task.collect();
    user.checkout().snapshot().unwrap();
    assert_eq!(canaries.fired(), BTreeSet::new());
    git(task.dir(), &["status", "--ignore-submodules=none"]);
    assert!(canaries.fired().contains("filter"), "the trap was not live");
}

#[test]
fn what_another_repository_has_is_not_taken_through_alternates() {
    let user = World::with(&[("a.txt", "one\n")]);
    let task = user.start();
    let canaries = Canaries::new(&user);
    canaries.plant_alternates(&user, task.dir());
    let other = user.tmp.path().join("other");
    let tree = git(&other, &["rev-parse", "HEAD^{tree}"]);
    let base = task.workspace.base().to_owned();
    let commit = git(
        task.dir(),
        &["commit-tree", &tree, "-p", &base, "-m", "stolen"],
    );
    git(task.dir(), &["reset", "-q", "--soft", &commit]);
    task.write("b.txt", "two\n");
    let collected = task.collect();
    assert!(
        collected
            .manifest
            .warnings
            .iter()
            .any(|w| w.contains("commits became one")),
        "{:?}",
        collected.manifest.warnings
    );
    assert_no_secret(&user, &task);
}

#[test]
fn links_in_the_git_directory_lead_nowhere() {
    type Trick = fn(&World, &Path);
    let tricks: [(&str, Trick); 5] = [
        ("objects", |user, dir| {
            let other = user.tmp.path().join("other/.git/objects");
            fs::remove_dir_all(dir.join(".git/objects")).unwrap();
            symlink(other, dir.join(".git/objects")).unwrap();
        }),
        ("HEAD", |user, dir| {
            let other = user.tmp.path().join("other/.git/HEAD");
            fs::remove_file(dir.join(".git/HEAD")).unwrap();
            symlink(other, dir.join(".git/HEAD")).unwrap();
        }),
        ("refs", |user, dir| {
            let other = user.tmp.path().join("other/.git/refs");
            fs::remove_dir_all(dir.join(".git/refs")).unwrap();
            symlink(other, dir.join(".git/refs")).unwrap();
            fs::write(dir.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
        }),
        ("packs", |user, dir| {
            let other = user.tmp.path().join("other");
            git(&other, &["repack", "-qad"]);
            let tip = git(&other, &["rev-parse", "HEAD"]);
            let _none = fs::remove_dir(dir.join(".git/objects/pack"));
            symlink(
                other.join(".git/objects/pack"),
                dir.join(".git/objects/pack"),
            )
            .unwrap();
            fs::write(dir.join(".git/HEAD"), tip).unwrap();
        }),
        ("git directory", |user, dir| {
            fs::remove_dir_all(dir.join(".git")).unwrap();
            symlink(user.tmp.path().join("other/.git"), dir.join(".git")).unwrap();
        }),
    ];
    for (name, trick) in tricks {
        let user = World::with(&[("a.txt", "one\n")]);
        let task = user.start();
        Canaries::new(&user).plant_alternates(&user, task.dir());
        task.write("b.txt", "two\n");
        trick(&user, task.dir());
        let before = picture(&user.tmp.path().join("other"));
        let collected = task.collect();
        let names: Vec<_> = collected.manifest.entries.iter().map(|e| &e.path).collect();
        assert_eq!(names, ["b.txt"], "{name}");
        assert_no_secret(&user, &task);
        assert_eq!(picture(&user.tmp.path().join("other")), before, "{name}");
    }
}

/// Neither the patch nor any object of the bundle has it.
fn assert_no_secret(user: &World, task: &Task) {
    let collected = task.collect();
    let patch = fs::read(task.out.join("change.patch")).unwrap();
    assert!(!String::from_utf8_lossy(&patch).contains("SECRET"));
    let secret = git(
        &user.tmp.path().join("other"),
        &["rev-parse", "HEAD:secret.txt"],
    );
    import_branch(&user.checkout(), &task.change(&collected), &[]).unwrap();
    let found = Command::new("git")
        .current_dir(user.user())
        .args(["cat-file", "-e", &secret])
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(!found.success(), "the secret came with the bundle");
}

/// Every file below a directory with its bytes.
fn picture(dir: &Path) -> BTreeSet<(PathBuf, Vec<u8>)> {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        match entry.file_type().unwrap().is_dir() {
            true => files.extend(picture(&path)),
            false => drop(files.insert((path.clone(), fs::read(&path).unwrap()))),
        }
    }
    files
}
