use std::{fs, path::Path, process::Command, time::Duration};

use orchestra_config::StateDir;
use orchestra_proto::v1;
use orchestra_repo::Checkout;
use orchestra_types::{
    Artifact, ArtifactKind, AttemptId, Digest, Exit, FileChange, Manifest, ManifestEntry, Outcome,
    Place, ProjectRef, TaskId, TaskSpec, TaskStatus, Timestamp,
};
use prost::Message;

use super::{ApplyResult, Facts, Here, Put, put_in_place};
use crate::{blobs::Blobs, earlier};

/// A user's repository, and the bundle of an attempt that added `new.txt` to it.
struct World {
    dir: tempfile::TempDir,
    repository: std::path::PathBuf,
    blobs: Blobs,
    facts: Facts,
}

fn git(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=t", "-c", "user.email=t@t"]);
    let output = command.current_dir(dir).args(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?}: {error}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn world(apply: bool) -> World {
    let dir = tempfile::tempdir().unwrap();
    let repository = dir.path().join("project");
    fs::create_dir(&repository).unwrap();
    git(&repository, &["init", "-q", "-b", "main"]);
    fs::write(repository.join("old.txt"), "old\n").unwrap();
    git(&repository, &["add", "."]);
    git(&repository, &["commit", "-qm", "base"]);
    let base = git(&repository, &["rev-parse", "HEAD"]);
    world_of(dir, repository, "project", base, apply)
}

/// The same for what is in `repository`, whose commits are in the git repository `source`.
fn world_of(
    dir: tempfile::TempDir,
    repository: std::path::PathBuf,
    source: &str,
    base: String,
    apply: bool,
) -> World {
    let clone = dir.path().join("clone");
    git(dir.path(), &["clone", "-q", source, "clone"]);
    git(&clone, &["checkout", "-qb", "orchestra/task_001"]);
    fs::write(clone.join("new.txt"), "new\n").unwrap();
    git(&clone, &["add", "."]);
    git(&clone, &["commit", "-qm", "work"]);
    let commit = git(&clone, &["rev-parse", "HEAD"]);

    let blobs = Blobs::open(&dir.path().join("blobs")).unwrap();
    let digest = blobs.put(&bundle(&clone, &base)).unwrap();
    let mut facts = facts(&repository, base.clone(), commit, digest, apply);
    let patch = ["diff-tree", "-r", "-p", "--binary", "--full-index"];
    let patch = git(&clone, &[&patch[..], &[&base, "HEAD"]].concat()) + "\n";
    let listed = v1::Manifest::from(listed(&blobs)).encode_to_vec();
    for (kind, bytes) in [
        (ArtifactKind::Patch, patch.into_bytes()),
        (ArtifactKind::Manifest, listed),
    ] {
        let digest = blobs.put(&bytes).unwrap();
        let artifact = Artifact {
            kind,
            digest,
            size: 1,
        };
        facts.outcome.artifacts.push(artifact);
    }
    World {
        dir,
        repository,
        blobs,
        facts,
    }
}

/// The attempt's branch in `clone` as a bundle.
fn bundle(clone: &Path, base: &str) -> Vec<u8> {
    let range = format!("{base}..refs/heads/orchestra/task_001");
    git(clone, &["bundle", "create", "-q", "../bundle", &range]);
    fs::read(clone.with_file_name("bundle")).unwrap()
}

/// What the attempt changed.
fn listed(blobs: &Blobs) -> Manifest {
    let entry = ManifestEntry {
        path: "new.txt".to_owned(),
        path_quoted: None,
        renamed_from_quoted: None,
        change: FileChange::Added,
        size: 4,
        mode: 0o100_644,
        sha256: Some(blobs.put(b"new\n").unwrap()),
        lines_added: Some(1),
        lines_removed: Some(0),
        binary: false,
    };
    Manifest {
        entries: vec![entry],
        warnings: Vec::new(),
    }
}

fn facts(dir: &Path, base: String, commit: String, bundle: Digest, apply: bool) -> Facts {
    let spec = TaskSpec {
        timeout: Duration::from_secs(60),
        project: Some(ProjectRef {
            id: "git-1".parse().unwrap(),
            name: "project".to_owned(),
            dir: dir.to_owned(),
            machine: "here".parse().unwrap(),
        }),
        place: Place::Repository {
            commit: base.clone(),
            head: base,
            branch: "main".to_owned(),
            bundles: vec![bundle],
            ignore_rules: String::new(),
        },
        apply,
        ..TaskSpec::new("add a file")
    };
    let outcome = Outcome {
        branch: "orchestra/task_001".to_owned(),
        commit,
        artifacts: vec![Artifact {
            kind: ArtifactKind::Bundle,
            digest: bundle,
            size: 1,
        }],
        ..Outcome::bare(Exit::Code(0), Timestamp(1))
    };
    Facts {
        attempts: Vec::new(),
        earlier: Vec::new(),
        sources: Some(Vec::new()),
        spec,
        created_at: Timestamp(0),
        outcome,
        status: Some(TaskStatus::Succeeded),
        cancelled: false,
        attempt: AttemptId {
            task: TaskId(1),
            number: 1,
        },
        runner: "agent".to_owned(),
        worker: "w".to_owned(),
    }
}

fn close(world: &World, machine: &str) -> ApplyResult {
    put(world, machine).apply
}

fn put(world: &World, machine: &str) -> Put {
    let here = Here {
        machine: machine.parse().unwrap(),
        state: StateDir::new(world.dir.path().join("state")),
        cluster: "c1".to_owned(),
    };
    put_in_place(&world.blobs, &here, &world.facts)
}

#[test]
fn the_branch_and_the_change_are_in_the_repository_and_doing_it_twice_does_no_harm() {
    let world = world(true);
    for _ in 0..2 {
        let applied = close(&world, "here");
        assert!(
            matches!(applied, ApplyResult::Applied { .. }),
            "{applied:?}"
        );
        let text = fs::read_to_string(world.repository.join("new.txt")).unwrap();
        assert_eq!(text, "new\n");
        let branch = git(&world.repository, &["rev-parse", "orchestra/task_001"]);
        assert_eq!(branch, world.facts.outcome.commit);
    }
}

#[test]
fn what_succeeds_after_a_cancel_is_kept_and_not_applied() {
    let mut world = world(true);
    world.facts.cancelled = true;
    assert_eq!(close(&world, "here"), ApplyResult::NotRequested);
    assert!(!world.repository.join("new.txt").exists());
    git(&world.repository, &["rev-parse", "orchestra/task_001"]);
}

#[test]
fn the_tasks_below_are_named_each_time_until_they_are_known_to_be_applied() {
    let mut world = world(true);
    let below = TaskId(7);
    build_on(&mut world, below);
    for _ in 0..2 {
        // Who did it the first time may have ended before it told anybody.
        assert_eq!(put(&world, "here").with, [below]);
        let text = fs::read_to_string(world.repository.join("below.txt")).unwrap();
        assert_eq!(text, "below\n");
    }
    world.facts.earlier[0].change.applied = true;
    assert_eq!(put(&world, "here").with, []);
}

/// Makes the attempt one that began with the change of another task.
fn build_on(world: &mut World, task: TaskId) {
    let clone = world.dir.path().join("clone");
    let work = world.facts.outcome.commit.clone();
    let Place::Repository { commit: base, .. } = world.facts.spec.place.clone() else {
        panic!("it is of a repository");
    };
    git(&clone, &["reset", "-q", "--hard", &base]);
    fs::write(clone.join("below.txt"), "below\n").unwrap();
    git(&clone, &["add", "."]);
    git(&clone, &["commit", "-qm", "below"]);
    let commit = git(&clone, &["rev-parse", "HEAD"]);
    git(&clone, &["cherry-pick", &work]);
    let outcome = &mut world.facts.outcome;
    outcome.commit = git(&clone, &["rev-parse", "HEAD"]);
    outcome.artifacts[0].digest = world.blobs.put(&bundle(&clone, &base)).unwrap();
    outcome.built_on.commit = commit.clone();
    outcome.built_on.tasks = vec![task];
    world.facts.sources = Some(vec![base.clone(), commit.clone()]);
    world.facts.earlier = vec![earlier::Earlier {
        task: Some(task),
        change: orchestra_repo::Earlier {
            start: base.clone(),
            base,
            commit,
            applied: false,
        },
    }];
}

#[test]
fn without_a_wish_to_apply_only_the_branch_comes() {
    let world = world(false);
    assert_eq!(close(&world, "here"), ApplyResult::NotRequested);
    assert!(!world.repository.join("new.txt").exists());
    git(&world.repository, &["rev-parse", "orchestra/task_001"]);
}

#[test]
fn what_the_agent_left_elsewhere_is_a_branch_also_without_a_change() {
    let mut world = world(true);
    let clone = world.dir.path().join("clone");
    let left = "orchestra/task_001-1-left";
    git(&clone, &["branch", left]);
    let range = format!("origin/main..{left}");
    git(&clone, &["bundle", "create", "-q", "../left", &range]);
    let bundle = fs::read(world.dir.path().join("left")).unwrap();
    world.facts.outcome.artifacts[0].digest = world.blobs.put(&bundle).unwrap();
    world.facts.outcome.branch.clear();
    let commit = std::mem::take(&mut world.facts.outcome.commit);
    for status in [None, Some(TaskStatus::Succeeded)] {
        world.facts.status = status;
        let expected = match status {
            Some(_) => ApplyResult::Applied { files: 0 },
            None => ApplyResult::NotRequested,
        };
        assert_eq!(close(&world, "here"), expected);
        assert_eq!(git(&world.repository, &["rev-parse", left]), commit);
    }
    assert!(!world.repository.join("new.txt").exists());
    assert_eq!(
        git(
            &world.repository,
            &["branch", "--list", "orchestra/task_001"]
        ),
        ""
    );
}

#[test]
fn a_file_of_the_user_in_the_way_is_a_conflict_and_stays() {
    let world = world(true);
    fs::write(world.repository.join("new.txt"), "mine\n").unwrap();
    let ApplyResult::Conflict { message } = close(&world, "here") else {
        panic!("applied over the user's file");
    };
    assert!(message.contains("new.txt"), "{message}");
    let text = fs::read_to_string(world.repository.join("new.txt")).unwrap();
    assert_eq!(text, "mine\n");
}

#[test]
fn of_a_bundle_that_is_not_what_was_told_nothing_is_put_in_place() {
    for apply in [true, false] {
        let mut world = world(apply);
        let clone = world.dir.path().join("clone");
        fs::write(clone.join("evil.sh"), "rm -rf ~\n").unwrap();
        git(&clone, &["add", "."]);
        git(&clone, &["commit", "-q", "--amend", "-m", "work"]);
        let Place::Repository { commit: base, .. } = &world.facts.spec.place else {
            panic!("it is of a repository");
        };
        let digest = world.blobs.put(&bundle(&clone, base)).unwrap();
        world.facts.outcome.artifacts[0].digest = digest;
        world.facts.outcome.commit = git(&clone, &["rev-parse", "HEAD"]);
        match (close(&world, "here"), apply) {
            (ApplyResult::Conflict { message }, true) => {
                assert!(message.contains("`evil.sh`"), "{message}");
            }
            (done, _) => assert_eq!(done, ApplyResult::NotRequested),
        }
        let status = git(&world.repository, &["status", "--porcelain"]);
        let branches = git(&world.repository, &["branch", "--list", "orchestra/*"]);
        assert_eq!((status.as_str(), branches.as_str()), ("", ""), "{apply}");
    }
}

#[test]
fn a_failed_attempt_leaves_its_branch_but_is_not_applied() {
    let mut world = world(true);
    world.facts.status = Some(TaskStatus::Failed);
    assert_eq!(close(&world, "here"), ApplyResult::NotRequested);
    assert!(!world.repository.join("new.txt").exists());
    git(&world.repository, &["rev-parse", "orchestra/task_001"]);
}

#[test]
fn a_checkout_on_another_machine_is_left_to_its_own_client() {
    let world = world(true);
    assert_eq!(close(&world, "elsewhere"), ApplyResult::NotRequested);
    assert!(!world.repository.join("new.txt").exists());
}

#[test]
fn a_repository_that_is_gone_is_a_conflict_with_its_name() {
    let world = world(true);
    fs::rename(&world.repository, world.repository.with_extension("moved")).unwrap();
    let ApplyResult::Conflict { message } = close(&world, "here") else {
        panic!("applied to nothing");
    };
    let dir = world.repository.display();
    assert_eq!(
        message,
        format!(
            "`{dir}` is gone; `ctl apply task_001` in another checkout of the project brings the change"
        )
    );
}

#[test]
fn a_repository_that_git_does_not_take_for_one_is_a_conflict_that_says_so() {
    let world = world(true);
    let head = world.repository.join(".git/HEAD");
    let whole = fs::read(&head).unwrap();
    fs::write(&head, "").unwrap();
    let ApplyResult::Conflict { message } = close(&world, "here") else {
        panic!("applied to no repository");
    };
    let why = "there is a `.git` here that git does not take for a repository";
    assert!(message.contains(why), "{message}");
    let advice = "; once that is mended, `ctl apply task_001` puts the change there";
    assert!(message.ends_with(advice), "{message}");
    assert!(!world.repository.join("new.txt").exists());
    fs::write(&head, whole).unwrap();
    assert_eq!(close(&world, "here"), ApplyResult::Applied { files: 1 });
}

#[test]
fn what_the_disk_refuses_is_told_with_its_cause_and_the_command_that_tries_it_again() {
    let world = world(true);
    // Root may write everywhere, but no file where a directory is.
    let lock = world.repository.join(".git/orchestra-apply.lock");
    fs::create_dir(&lock).unwrap();
    let ApplyResult::Conflict { message } = close(&world, "here") else {
        panic!("applied without the lock");
    };
    let cause = "orchestra-apply.lock`: Is a directory (os error 21); ";
    assert!(message.contains(cause), "{message}");
    let advice = "; once that is mended, `ctl apply task_001` puts the change there";
    assert!(message.ends_with(advice), "{message}");
    fs::remove_dir(&lock).unwrap();
    assert_eq!(close(&world, "here"), ApplyResult::Applied { files: 1 });
}

#[test]
fn a_workspace_that_is_gone_with_its_attempt_is_called_so() {
    let mut world = world(true);
    let workspace = world.dir.path().join("task_009.2");
    world.facts.spec.project.as_mut().unwrap().dir = workspace.clone();
    for (parent, says) in [
        (Some(TaskId(9)), true),
        (Some(TaskId(8)), false),
        (None, false),
    ] {
        world.facts.spec.parent = parent;
        let ApplyResult::Conflict { message } = close(&world, "here") else {
            panic!("applied to nothing");
        };
        let advice = "since task_009.2, whose agent queued the task there, has ended; \
                      `ctl apply task_001` in the project brings the change";
        assert_eq!(message.ends_with(advice), says, "{message}");
        assert!(message.contains(workspace.to_str().unwrap()), "{message}");
    }
}

#[test]
fn a_change_comes_into_a_directory_that_is_in_no_repository_once_ctl_has_taken_it() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    fs::create_dir(&plain).unwrap();
    fs::write(plain.join("old.txt"), "old\n").unwrap();
    let keep = StateDir::new(dir.path().join("state")).directory("git-1");
    let (taken, _) = Checkout::of_directory(&plain, &keep, &[]).unwrap();
    let base = taken.head().unwrap().to_owned();

    let world = world_of(dir, plain, keep.to_str().unwrap(), base, true);
    assert_eq!(
        close(&world, "here"),
        ApplyResult::Applied { files: 1 },
        "the file of the change"
    );
    let text = fs::read_to_string(world.repository.join("new.txt")).unwrap();
    assert_eq!(text, "new\n");
    fs::remove_dir_all(&keep).unwrap();
    let ApplyResult::Conflict { message } = close(&world, "here") else {
        panic!("the base is nowhere");
    };
    assert!(
        message.contains("`ctl apply` puts the change there"),
        "{message}"
    );
}
