//! A history that comes in parts, each on top of the ones before it.

use std::{fs, path::Path, process::Command};

use orchestra_proto::v1::order;
use orchestra_types::{Digest, Place};

use super::{
    LONG, cleaned, code,
    harness::{FakeHead, Worker, shell},
    repository,
};

/// What the first part reaches, and what each of the others adds.
struct Parts {
    commits: Vec<String>,
    bundles: Vec<[u8; 32]>,
}

impl Parts {
    fn of(head: &FakeHead, dir: &Path, count: usize) -> Self {
        let (commit, bundle) = repository(dir);
        let mut parts = Self {
            commits: vec![commit],
            bundles: vec![head.store(bundle)],
        };
        for _ in 1..count {
            parts.add(head, dir);
        }
        parts
    }

    fn add(&mut self, head: &FakeHead, dir: &Path) {
        let git = |args: &[&str]| {
            let mut git = Command::new("git");
            git.args(["-c", "user.name=t", "-c", "user.email=t@t"]);
            let done = git.args(args).current_dir(dir).output().unwrap();
            assert!(done.status.success(), "{done:?}");
            String::from_utf8(done.stdout).unwrap().trim().to_owned()
        };
        git(&["commit", "-q", "--allow-empty", "-m", "on"]);
        let before = format!("^{}", self.commits.last().unwrap());
        git(&["bundle", "create", "-q", "part.bundle", "main", &before]);
        self.commits.push(git(&["rev-parse", "HEAD"]));
        let part = fs::read(dir.join("part.bundle")).unwrap();
        self.bundles.push(head.store(part));
    }

    fn place(&self, parts: usize) -> Place {
        Place::Repository {
            commit: self.commits[parts - 1].clone(),
            head: self.commits[parts - 1].clone(),
            branch: "main".to_owned(),
            bundles: self.bundles[..parts].iter().copied().map(Digest).collect(),
            ignore_rules: String::new(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_repository_has_taken_is_not_fetched_again() {
    let head = FakeHead::start().await;
    let worker = Worker::start(&head);
    let user = tempfile::tempdir().unwrap();
    let parts = Parts::of(&head, user.path(), 4);
    let works = async |task, count| {
        let start = shell(task, "cat file.txt", parts.place(count), LONG);
        head.order(order::Body::Start(start)).await;
        let outcome = head.finished(task).await;
        assert_eq!(code(&outcome), "", "{outcome:?}");
        head.seen().downloads.len()
    };
    assert_eq!(works(1, 1).await, 1);
    fs::remove_dir_all(worker.file("cache/bundles")).unwrap();
    assert_eq!(works(2, 2).await, 2, "only the second part was fetched");

    // What it notes is not so: it begins with the first part again.
    let mut repositories = fs::read_dir(worker.file("cache/repositories")).unwrap();
    let noted = repositories.next().unwrap().unwrap().path();
    let noted = noted.join("orchestra-bundles");
    fs::write(noted.join(Digest(parts.bundles[2]).to_string()), "").unwrap();
    assert_eq!(
        works(3, 4).await,
        5,
        "the fourth, then the first and the third"
    );
    cleaned(&worker).await;
}
