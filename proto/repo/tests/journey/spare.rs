//! Work trees made in advance: quick, and never other than what the commit has.

use std::fs;

use crate::common::{BRANCH, World, git};
use orchestra_repo::{Cache, Plan, Workspace};

struct Project {
    user: World,
    cache: Cache,
}

impl Project {
    fn new() -> Self {
        let user = World::without_commit();
        for file in 0..600 {
            user.write(&format!("d{}/file{file}.txt", file % 10), "text\r\n");
        }
        user.write(".gitattributes", "* text=auto eol=lf\n");
        user.commit("many");
        let cache = Cache::open(&user.tmp.path().join("cache"), &head(&user)).unwrap();
        let project = Self { user, cache };
        project.fetch();
        project
    }

    /// Brings the user's HEAD into the cache.
    fn fetch(&self) -> String {
        let snapshot = self.user.checkout().snapshot().unwrap();
        let bundle = self.user.tmp.path().join("bundle");
        snapshot.bundle(&[], &bundle).unwrap();
        self.cache
            .fetch_bundles(&[bundle], &snapshot.commit)
            .unwrap();
        snapshot.commit
    }

    fn workspace(&self, name: &str, commit: &str) -> Workspace {
        let place = self.user.tmp.path().join(name);
        Workspace::create(&Plan {
            cache: &self.cache,
            commit,
            start: commit,
            head: commit,
            branch: BRANCH,
            others: &[],
            ignore_rules: "",
            dir: &place.join("agent"),
            git_dir: &place.join("own"),
        })
        .unwrap()
    }

    fn ready(&self) -> std::path::PathBuf {
        self.cache.path().join("spares/ready")
    }
}

fn head(user: &World) -> String {
    git(&user.user(), &["rev-parse", "HEAD"])
}

/// The files are those of the commit, and the agent's git sees no change.
fn assert_fresh(workspace: &Workspace, files: usize) {
    let dir = workspace.dir();
    assert_eq!(walk(dir), files);
    let text = git(dir, &["show", "HEAD:d0/file0.txt"]);
    let found = fs::read_to_string(dir.join("d0/file0.txt")).unwrap();
    assert_eq!(found, text + "\n");
    assert_eq!(git(dir, &["status", "--porcelain"]), "");
}

fn walk(dir: &std::path::Path) -> usize {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let count = |entry: fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true if entry.file_name() == ".git" => 0,
        true => walk(&entry.path()),
        false => 1,
    };
    entries.map(count).sum()
}

#[test]
fn a_spare_is_taken_once_and_is_the_commit() {
    let project = Project::new();
    let commit = head(&project.user);
    project.cache.make_spare(&commit).unwrap();
    assert!(project.ready().join("made").exists());
    assert_fresh(&project.workspace("one", &commit), 601);
    assert!(!project.ready().exists(), "it was taken");
    assert_fresh(&project.workspace("two", &commit), 601);
}

#[test]
fn what_an_agent_changes_in_a_spare_is_seen_at_once() {
    let project = Project::new();
    let commit = head(&project.user);
    project.cache.make_spare(&commit).unwrap();
    let workspace = project.workspace("one", &commit);
    fs::write(workspace.dir().join("d0/file0.txt"), "TEXT\r\n").unwrap();
    let seen = workspace.look(&[], &[]).unwrap();
    let paths: Vec<&str> = seen.entries.iter().map(|entry| &*entry.path).collect();
    assert_eq!(paths, ["d0/file0.txt"]);
}

#[test]
fn a_spare_of_an_older_commit_becomes_the_newer_one() {
    let project = Project::new();
    project.cache.make_spare(&head(&project.user)).unwrap();
    project.user.write("d0/file0.txt", "longer text\n");
    project.user.write("new/file.txt", "new\n");
    fs::remove_file(project.user.user().join("d1/file1.txt")).unwrap();
    project.user.commit("later");
    let commit = project.fetch();
    assert_fresh(&project.workspace("one", &commit), 601);
}

#[test]
fn a_damaged_spare_costs_time_and_nothing_else() {
    type Damage = fn(&std::path::Path);
    let damages: [(&str, Damage); 5] = [
        ("a file that lost its text", |ready| {
            fs::write(ready.join("tree/d0/file0.txt"), "").unwrap();
        }),
        ("a file that is gone", |ready| {
            fs::remove_file(ready.join("tree/d0/file0.txt")).unwrap();
        }),
        ("a torn index", |ready| {
            let index = fs::read(ready.join("index")).unwrap();
            fs::write(ready.join("index"), &index[..index.len() / 2]).unwrap();
        }),
        ("no index", |ready| {
            fs::remove_file(ready.join("index")).unwrap()
        }),
        ("made before the machine was started", |ready| {
            fs::write(ready.join("made"), "another start").unwrap();
            fs::write(ready.join("tree/d0/file0.txt"), "").unwrap();
        }),
    ];
    for (name, damage) in damages {
        let project = Project::new();
        let commit = head(&project.user);
        project.cache.make_spare(&commit).unwrap();
        damage(&project.ready());
        let workspace = project.workspace("one", &commit);
        assert_eq!(walk(workspace.dir()), 601, "{name}");
        assert_fresh(&workspace, 601);
    }
}

#[test]
fn only_a_large_workspace_is_worth_a_spare() {
    let project = Project::new();
    assert!(project.workspace("one", &head(&project.user)).is_large());
    let small = World::with(&[("a.txt", "one\n")]);
    assert!(!small.start().workspace.is_large());
}

#[test]
fn a_repository_goes_only_when_nobody_opened_it_for_that_long() {
    let project = Project::new();
    let path = project.cache.path();
    let hour = std::time::Duration::from_secs(3600);
    assert!(!Cache::remove_unused(path, hour).unwrap());
    project.cache.make_spare(&head(&project.user)).unwrap();
    assert!(Cache::remove_spare(path).unwrap());
    assert!(!project.ready().exists());
    assert!(Cache::remove_unused(path, std::time::Duration::ZERO).unwrap());
    assert!(!path.exists());
    let again = Cache::open(path, &head(&project.user)).unwrap();
    assert!(!again.has(&head(&project.user)).unwrap());
}
