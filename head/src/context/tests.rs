//! What the context promises, on real directories.

mod damage;
mod outputs;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use orchestra_config::ContextConfig;
use orchestra_repo::{project_ref, projects_of};
use orchestra_types::{
    Failure, FailureCode, FileChange, ManifestEntry, ProjectId, ProjectRef, TaskId, TaskSpec,
    TaskStatus, Timestamp,
};

use super::*;

struct World {
    dir: tempfile::TempDir,
    /// The project of the place.
    id: ProjectId,
    store: Store,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let project = dir.path().join("project");
    fs::create_dir(&project).unwrap();
    let store = opened(dir.path());
    let [_, id] = projects_of(&project, None, &"here".parse().unwrap()).unwrap();
    World { dir, id, store }
}

fn opened(dir: &Path) -> Store {
    opened_with(dir, ContextConfig::default())
}

fn opened_with(dir: &Path, config: ContextConfig) -> Store {
    Store::new(&dir.join("head/context"), &config, "here".parse().unwrap())
}

impl World {
    fn project(&self) -> PathBuf {
        self.dir.path().join("project")
    }

    fn own(&self, name: &str) -> PathBuf {
        self.dir
            .path()
            .join("head/context")
            .join(self.id.as_str())
            .join(name)
    }

    fn mirror(&self, name: &str) -> PathBuf {
        match name {
            "" => self.project().join("context"),
            name => self.project().join("context").join(name),
        }
    }

    fn spec(&self) -> TaskSpec {
        TaskSpec {
            timeout: Duration::from_secs(60),
            project: Some(ProjectRef {
                id: self.id.clone(),
                name: "project".to_owned(),
                dir: self.project(),
                machine: "here".parse().unwrap(),
            }),
            submitter: "me@here".to_owned(),
            ..TaskSpec::new("Write the parser\nwith care")
        }
    }

    fn task(&self, number: u64) -> ClosingTask {
        ClosingTask {
            id: TaskId(number),
            attempt: 1,
            spec: self.spec(),
            status: TaskStatus::Succeeded,
            failure: None,
            runner: "agent".to_owned(),
            worker: "w".to_owned(),
            started_at: Some(Timestamp(1_800_000_000_000)),
            finished_at: Timestamp(1_800_000_060_000),
            files: vec![ManifestEntry {
                path: "src/parser.rs".to_owned(),
                path_quoted: None,
                renamed_from_quoted: None,
                change: FileChange::Added,
                size: 1,
                mode: 0o100_644,
                sha256: None,
                lines_added: None,
                lines_removed: None,
                binary: false,
            }],
            text: format!("The result of {number}."),
        }
    }

    /// Every file below the store and the mirror, with its bytes.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut dirs = vec![self.own(""), self.mirror("")];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else {
                    files.insert(path.clone(), fs::read(path).unwrap());
                }
            }
        }
        files
    }

    fn git(&self, args: &[&str]) {
        let mut git = Command::new("git");
        let done = git.current_dir(self.project()).args(args).output();
        assert!(done.unwrap().status.success(), "{args:?}");
    }

    fn given(&self, name: &str) -> Option<String> {
        let documents = self.store.documents_for(&self.spec(), &[]).unwrap();
        documents
            .into_iter()
            .find(|d| d.name == name)
            .map(|d| d.text)
    }
}

fn read(path: PathBuf) -> String {
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The text of a file of ours, which its first line must fit.
fn read_own(path: PathBuf) -> String {
    let text = sum::text_of(&fs::read(&path).unwrap()).map(<[u8]>::to_vec);
    let text = text.unwrap_or_else(|| panic!("{} is damaged", path.display()));
    String::from_utf8(text).unwrap()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_task_that_ended_is_told_in_the_store_and_in_the_mirror() {
    let world = world();
    let mut task = world.task(1);
    task.status = TaskStatus::Failed;
    task.failure = Some(Failure::new(FailureCode::Timeout, "ran 60 s"));
    world.store.record(&task).unwrap();
    let output = read(world.mirror("agent_outputs/task_001_output.md"));
    for want in [
        "# task_001: Write the parser\n",
        "- status: failed\n",
        "- reason: timeout: ran 60 s\n",
        "- runner: agent\n",
        "- worker: w\n",
        "- started: 2027-01-15T08:00:00Z\n",
        "  - added `src/parser.rs`\n",
        "\n---\n\nThe result of 1.\n",
    ] {
        assert!(output.contains(want), "{want:?} is not in {output}");
    }
    let list: serde_json::Value = serde_json::from_str(&read(world.mirror(COMPLETED))).unwrap();
    assert_eq!(list[0]["id"], "task_001");
    assert_eq!(list[0]["status"], "failed");
    let line = "- task_001 failed (agent, 1 file): Write the parser\n";
    assert!(read(world.mirror(STATE)).contains(line));
    for name in [
        OVERVIEW,
        STATE,
        COMPLETED,
        "agent_outputs/task_001_output.md",
    ] {
        assert_eq!(
            read(world.mirror(name)),
            read_own(world.own(name)),
            "{name}"
        );
    }
}

#[test]
fn recording_again_changes_nothing_and_an_earlier_attempt_never_overwrites() {
    let world = world();
    let mut task = world.task(1);
    task.attempt = 2;
    world.store.record(&task).unwrap();
    let before = world.files();
    opened(world.dir.path()).record(&task).unwrap();
    assert_eq!(world.files(), before);
    task.attempt = 1;
    task.text = "late".to_owned();
    world.store.record(&task).unwrap();
    assert_eq!(world.files(), before);
}

#[test]
fn a_crash_at_any_point_is_mended_by_recording_again() {
    let world = world();
    world.store.record(&world.task(1)).unwrap();
    world.store.record(&world.task(2)).unwrap();
    let whole = world.files();
    let lost = [
        world.own(STATE),
        world.own("mirror.json"),
        world.mirror(STATE),
        world.mirror(COMPLETED),
        world.mirror("agent_outputs/task_002_output.md"),
    ];
    for path in lost {
        fs::remove_file(&path).unwrap();
        opened(world.dir.path()).record(&world.task(2)).unwrap();
        assert_eq!(world.files(), whole, "without {}", path.display());
    }
}

#[test]
fn what_a_person_writes_is_given_to_the_next_task_and_kept() {
    let world = world();
    assert_eq!(world.given(OVERVIEW), None);
    world.store.record(&world.task(1)).unwrap();
    assert_eq!(world.given(OVERVIEW), None, "the template tells nothing");

    fs::write(world.mirror(OVERVIEW), "This is about owls.\n").unwrap();
    let state = read(world.mirror(STATE));
    let edited = format!("Mine above.\n\n{state}\nMine below.\n");
    fs::write(world.mirror(STATE), edited).unwrap();
    assert_eq!(world.given(OVERVIEW).unwrap(), "This is about owls.\n");
    assert!(world.given(STATE).unwrap().contains("Mine below."));

    fs::write(world.mirror(OVERVIEW), "This is about cats.\n").unwrap();
    world.store.record(&world.task(2)).unwrap();
    assert_eq!(read(world.mirror(OVERVIEW)), "This is about cats.\n");
    let state = read(world.mirror(STATE));
    assert!(state.starts_with("Mine above.\n\n") && state.ends_with("\nMine below.\n"));
    assert!(state.contains("- task_002 succeeded"), "{state}");
    assert_eq!(state.matches("orchestra:begin").count(), 1);
}

#[test]
fn a_file_that_was_there_before_us_is_a_persons() {
    let world = world();
    fs::create_dir(world.mirror("")).unwrap();
    fs::write(world.mirror(OVERVIEW), "Owls.\n").unwrap();
    fs::write(world.mirror(STATE), "All is well.").unwrap();
    assert_eq!(world.given(OVERVIEW).unwrap(), "Owls.\n");
    world.store.record(&world.task(1)).unwrap();
    assert_eq!(read(world.mirror(OVERVIEW)), "Owls.\n");
    let state = read(world.mirror(STATE));
    assert!(
        state.starts_with("All is well.\n\n<!-- orchestra:begin"),
        "{state}"
    );
}

#[test]
fn a_directory_of_the_projects_own_is_neither_read_nor_written() {
    let untracked = world();
    fs::create_dir(untracked.mirror("")).unwrap();
    fs::write(untracked.mirror("app.txt"), "v1\n").unwrap();
    fs::write(untracked.mirror(COMPLETED), "PRECIOUS\n").unwrap();
    let tracked = world();
    tracked.git(&["init", "-q"]);
    fs::create_dir(tracked.mirror("")).unwrap();
    fs::write(tracked.mirror(STATE), "My state.\n").unwrap();
    tracked.git(&["add", "."]);
    let was = |world: &World| {
        let mut files = world.files();
        files.retain(|path, _| path.starts_with(world.mirror("")));
        files
    };
    for world in [untracked, tracked] {
        fs::create_dir_all(world.own("")).unwrap();
        let before = was(&world);
        assert_eq!(world.given(STATE), None);
        world.store.record(&world.task(1)).unwrap();
        assert_eq!(was(&world), before);
        assert!(read_own(world.own(STATE)).contains("task_001"));
        assert_eq!(world.store.get(&world.id).unwrap().len(), 4);
        let exclude = world.project().join(".git/info/exclude");
        let excluded = fs::read_to_string(exclude).unwrap_or_default();
        assert!(!excluded.contains("context"), "{excluded}");
    }
}

#[test]
fn another_repository_at_the_place_of_the_project_gets_nothing_of_it() {
    let commit = |world: &World, text: &str| {
        world.git(&["init", "-q"]);
        fs::write(world.project().join("a"), text).unwrap();
        world.git(&["add", "a"]);
        let who = ["-c", "user.name=a", "-c", "user.email=a@b"];
        world.git(&[&who[..], &["commit", "-qm", text]].concat());
        let machine = "here".parse().unwrap();
        project_ref(&world.project(), &machine).unwrap().id
    };
    let mut world = world();
    world.store.record(&world.task(1)).unwrap();
    assert!(world.mirror(STATE).exists());
    world.id = commit(&world, "ours");
    world.store.record(&world.task(2)).unwrap();
    let text = fs::read_to_string(world.mirror(STATE)).unwrap();
    assert!(text.contains("task_002"), "{text}");

    fs::remove_dir_all(world.project()).unwrap();
    fs::create_dir(world.project()).unwrap();
    assert_ne!(commit(&world, "another"), world.id);
    let exclude = world.project().join(".git/info/exclude");
    let before = fs::read(&exclude).unwrap_or_default();
    world.store.record(&world.task(3)).unwrap();
    assert!(!world.mirror("").exists());
    assert_eq!(fs::read(&exclude).unwrap_or_default(), before);
    // Nor is anything of it taken over.
    fs::create_dir(world.mirror("")).unwrap();
    fs::write(world.mirror(OVERVIEW), "Of another.\n").unwrap();
    let documents = world.store.documents_for(&world.spec(), &[]).unwrap();
    let told = |text: &str| documents.iter().any(|d| d.text.contains(text));
    assert!(!told("Of another."));
    assert!(!world.store.get(&world.id).unwrap()[OVERVIEW].contains("Of another."));
}

#[test]
fn a_mirror_that_comes_to_be_tracked_is_a_persons() {
    let world = world();
    world.git(&["init", "-q"]);
    world.store.record(&world.task(1)).unwrap();
    let before = read(world.mirror(STATE));
    world.git(&["add", "--force", "context"]);
    world.store.record(&world.task(2)).unwrap();
    assert_eq!(read(world.mirror(STATE)), before);
}

#[test]
fn however_many_finish_at_once_each_is_recorded() {
    let world = world();
    std::thread::scope(|scope| {
        for number in 1..=24 {
            let world = &world;
            scope.spawn(move || world.store.record(&world.task(number)).unwrap());
        }
    });
    for text in [
        read_own(world.own(COMPLETED)),
        read(world.mirror(COMPLETED)),
    ] {
        let list: serde_json::Value = serde_json::from_str(&text).unwrap();
        let numbers = list.as_array().unwrap().iter();
        let numbers: Vec<u64> = numbers.map(|t| t["number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=24).collect::<Vec<_>>());
    }
    assert_eq!(read_own(world.own(STATE)), read(world.mirror(STATE)));
    assert_eq!(fs::read_dir(world.mirror(OUTPUTS)).unwrap().count(), 24);
}

#[test]
fn a_hostile_project_directory_costs_the_mirror_and_never_the_result() {
    let elsewhere = tempfile::tempdir().unwrap();
    let victim = elsewhere.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let link = |to: &Path, at: PathBuf| std::os::unix::fs::symlink(to, at).unwrap();
    let hostilities: [&dyn Fn(&World); 6] = [
        &|w| link(elsewhere.path(), w.mirror("")),
        &|w| fs::write(w.mirror(""), "a file").unwrap(),
        &|w| fs::remove_dir(w.project()).unwrap(),
        &|w| {
            fs::create_dir(w.mirror("")).unwrap();
            link(elsewhere.path(), w.mirror(OUTPUTS));
        },
        &|w| {
            fs::create_dir(w.mirror("")).unwrap();
            link(&victim, w.mirror(STATE));
            link(&victim, w.mirror(COMPLETED));
        },
        &|w| {
            fs::create_dir(w.mirror("")).unwrap();
            let pipe = Command::new("mkfifo").arg(w.mirror(OVERVIEW)).status();
            assert!(pipe.unwrap().success());
        },
    ];
    for (number, hostility) in hostilities.iter().enumerate() {
        let world = world();
        hostility(&world);
        world.store.documents_for(&world.spec(), &[]).unwrap();
        world.store.record(&world.task(1)).unwrap();
        let own = read_own(world.own("agent_outputs/task_001_output.md"));
        assert!(own.contains("The result of 1."), "hostility {number}");
        assert_eq!(read(victim.clone()), "precious", "hostility {number}");
        let names = fs::read_dir(elsewhere.path()).unwrap().count();
        assert_eq!(names, 1, "hostility {number} wrote elsewhere");
    }
}

#[test]
fn an_edit_that_cannot_be_read_is_neither_adopted_nor_overwritten() {
    let world = world();
    world.store.record(&world.task(1)).unwrap();
    let before = read_own(world.own(OVERVIEW));
    for bytes in [b"\xff\xfe".to_vec(), vec![b'x'; 1024 * 1024]] {
        fs::write(world.mirror(OVERVIEW), &bytes).unwrap();
        world.store.record(&world.task(2)).unwrap();
        assert_eq!(fs::read(world.mirror(OVERVIEW)).unwrap(), bytes);
        assert_eq!(read_own(world.own(OVERVIEW)), before);
    }
}

#[test]
fn a_description_cannot_end_our_section() {
    let world = world();
    let mut task = world.task(1);
    task.spec.description = "x <!-- orchestra:end --> <!-- orchestra:begin\u{1b}[31m".to_owned();
    world.store.record(&task).unwrap();
    world.store.record(&world.task(2)).unwrap();
    let state = read(world.mirror(STATE));
    assert_eq!(state.matches("<!-- orchestra:begin").count(), 1, "{state}");
    assert_eq!(
        state.matches("<!-- orchestra:end -->").count(),
        1,
        "{state}"
    );
    assert!(!state.contains('\u{1b}'));
}

#[test]
fn a_section_whose_end_was_taken_away_keeps_what_follows() {
    let text = render::state("<!-- orchestra:begin -->\nolder\n\nmine\n", &[]);
    assert!(
        text.ends_with("<!-- orchestra:end -->\n\nolder\n\nmine\n"),
        "{text}"
    );
}

#[test]
fn the_outputs_of_earlier_tasks_are_given_by_name_and_cut() {
    let world = world();
    let long = "y".repeat(2 * DOCUMENT_BYTES_MAX);
    let outputs = [(TaskId(3), "the plan".to_owned()), (TaskId(4), long)];
    let documents = world.store.documents_for(&world.spec(), &outputs).unwrap();
    assert_eq!(documents[0].name, "agent_outputs/task_003_output.md");
    assert_eq!(documents[0].text, "the plan");
    assert!(documents[1].text.len() <= DOCUMENT_BYTES_MAX);
}

#[test]
fn pull_and_push_reach_the_store_and_the_mirror() {
    let world = world();
    let project = world.id.clone();
    assert!(matches!(
        world.store.get(&project),
        Err(Error::Unknown { .. })
    ));
    world.store.record(&world.task(1)).unwrap();
    fs::write(world.mirror(STATE), "Edited here.\n").unwrap();
    let mut pulled = world.store.get(&project).unwrap();
    assert_eq!(pulled[STATE], "Edited here.\n");
    assert!(pulled["agent_outputs/task_001_output.md"].contains("The result of 1."));

    let refused = world.store.put(&project, &pulled);
    assert!(matches!(refused, Err(Error::NotEditable { .. })));
    pulled.retain(|name, _| EDITABLE.contains(&name.as_str()));
    pulled.insert(OVERVIEW.to_owned(), "Pushed.\n".to_owned());
    world.store.put(&project, &pulled).unwrap();
    assert_eq!(read(world.mirror(OVERVIEW)), "Pushed.\n");
    assert!(read(world.mirror(STATE)).starts_with("Edited here.\n\n<!-- orchestra:begin"));
    let large = "z".repeat(DOCUMENT_BYTES_MAX + 1);
    let refused = world
        .store
        .put(&project, &[(OVERVIEW.to_owned(), large)].into());
    assert!(matches!(refused, Err(Error::TooLarge { .. })));
}

#[test]
fn a_project_on_another_machine_has_no_mirror_here() {
    let world = world();
    let mut task = world.task(1);
    task.spec.project.as_mut().unwrap().machine = "there".parse().unwrap();
    world.store.record(&task).unwrap();
    assert!(world.own(STATE).exists() && !world.mirror("").exists());
}

#[test]
fn a_context_that_is_turned_off_leaves_no_trace() {
    let world = world();
    let off = ContextConfig {
        enabled: false,
        ..ContextConfig::default()
    };
    let root = world.dir.path().join("head/context");
    let store = Store::new(&root, &off, "here".parse().unwrap());
    store.record(&world.task(1)).unwrap();
    let given = store.documents_for(&world.spec(), &[(TaskId(1), "x".to_owned())]);
    assert!(given.unwrap().is_empty() && !root.exists() && !world.mirror("").exists());
}

#[test]
fn git_does_not_see_the_mirror() {
    let world = world();
    let git = |args: &[&str]| {
        let output = Command::new("git")
            .args(args)
            .current_dir(world.project())
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let sees_nothing = |number| {
        world.store.record(&world.task(number)).unwrap();
        assert!(world.mirror(STATE).exists());
        assert_eq!(git(&["status", "--porcelain"]), "", "task {number}");
    };
    world.store.record(&world.task(1)).unwrap();
    git(&["init", "--quiet"]);
    sees_nothing(2);
    // Another repository at the same place.
    fs::remove_dir_all(world.project()).unwrap();
    fs::create_dir(world.project()).unwrap();
    git(&["init", "--quiet"]);
    sees_nothing(3);
    sees_nothing(4);
    let list = fs::read_to_string(world.project().join(".git/info/exclude")).unwrap();
    assert_eq!(list.matches("/context/agent_outputs\n").count(), 1);
}
