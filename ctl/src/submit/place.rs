//! Where a task works: on a snapshot of the repository or directory, or in the directory itself.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use orchestra_config::{ProjectConfig, StateDir, load_project};
use orchestra_proto::Refused;
use orchestra_repo::{Checkout, branch_above_ours, project_ref};
use orchestra_types::{AttemptId, MachineId, Place, ProjectRef, SetUp, TaskId, TaskSpec};

use super::{
    chain::Chain,
    directory,
    draft::Draft,
    misnamed, set_up, source,
    twin::refuse_twins,
    upload::{Uploads, missing},
};
use crate::{
    app::App,
    blocking::blocking,
    client::Client,
    error::{Error, OrFailed, Result},
    exit::Exit,
    json::{refused, task::Project},
    repository::or_without,
};

/// The places of one submission: each repository is looked at once.
pub struct Places<'a> {
    app: &'a App,
    client: &'a Client,
    machine: MachineId,
    mirror: String,
    known: BTreeMap<(PathBuf, InPlace), Found>,
    chains: Vec<Chain>,
    /// The attempt whose agent calls, if one does.
    agent: Option<String>,
    /// The project of that one's task, once it was asked for.
    parents: Option<Option<Project>>,
}

/// What a directory means for a task.
#[derive(Clone)]
struct Found {
    project: ProjectRef,
    place: Place,
    set_up: Option<SetUp>,
    ports: Option<u32>,
}

/// Whether a person asked for work in the directory itself.
type InPlace = bool;

impl<'a> Places<'a> {
    /// Places on this machine; `mirror` is the directory of the shared context in a project.
    pub fn new(app: &'a App, client: &'a Client, mirror: String) -> Result<Self> {
        let machine = app.machine()?;
        Ok(Self {
            app,
            client,
            machine,
            mirror,
            known: BTreeMap::new(),
            chains: Vec::new(),
            agent: std::env::var("ORCHESTRA_ATTEMPT").ok(),
            parents: None,
        })
    }

    /// Sets the task's project and place; one that is for no project keeps its empty one.
    pub async fn locate(
        &mut self,
        uploads: &mut Uploads,
        draft: &Draft,
        base: &Path,
        spec: &mut TaskSpec,
    ) -> Result<()> {
        if draft.is_without_repo()? {
            return Ok(());
        }
        let key = (
            named_directory(draft, base)?,
            draft.in_place.unwrap_or(false),
        );
        if !self.known.contains_key(&key) {
            let found = self.look(uploads, &key.0, key.1).await?;
            self.known.insert(key.clone(), found);
        }
        let found = self.known[&key].clone();
        spec.project = Some(self.project_for_people(found.project).await?);
        spec.place = found.place;
        spec.set_up = found.set_up;
        spec.ports = spec.ports.or(found.ports);
        Ok(())
    }

    /// The workspace of an attempt is of its task's project: what an agent queues there is found with that
    /// one, and counts there. Only where the change goes is the workspace itself.
    async fn project_for_people(&mut self, found: ProjectRef) -> Result<ProjectRef> {
        let Some(task) = self
            .agent
            .as_deref()
            .and_then(|agent| task_at(agent, &found))
        else {
            return Ok(found);
        };
        if self.parents.is_none() {
            self.parents = Some(match self.client.task(task).await {
                Ok(task) => task.project,
                // Of another cluster, or forgotten.
                Err(error) if error.exit() == Exit::NotFound => None,
                Err(error) => return Err(error),
            });
        }
        let parents = self.parents.as_ref().and_then(Option::as_ref);
        parents.map_or(Ok(found.clone()), |project| called_as(found, project))
    }

    /// Remembers what was sent. IMPORTANT: only after it has been sent.
    pub fn remember(&self) {
        self.chains
            .iter()
            .for_each(|chain| chain.save(&self.app.ui));
    }

    async fn look(
        &mut self,
        uploads: &mut Uploads,
        dir: &Path,
        in_place: InPlace,
    ) -> Result<Found> {
        let (path, machine) = (dir.to_owned(), self.machine.clone());
        let mirror = self.mirror.clone();
        let (checkout, project, above) = blocking(move || {
            let failed = || format!("failed to look at `{}`", path.display());
            if Checkout::is_git_directory(&path).or_failed(failed)? {
                return Err(git_directory(&path));
            }
            if let Some(state) = StateDir::around(&path) {
                return Err(of_state(&path, &state));
            }
            let checkout = or_without(Checkout::discover(&path), failed)?;
            let own = checkout.map(|checkout| checkout.without_mirror(&mirror));
            let checkout = own.transpose().or_failed(failed)?;
            let above = checkout.as_ref().map(branch_above_ours);
            let above = above.transpose().or_failed(failed)?.flatten();
            let project = project_ref(&path, &machine).or_failed(failed)?;
            Ok((checkout, project, above))
        })
        .await?;
        let top = checkout.as_ref().map_or(dir, Checkout::top);
        let config =
            load_project(top).or_failed(|| "failed to read the project's file".to_owned())?;
        if let Some(warning) = misnamed::warning(top) {
            self.app.ui.warn(warning);
        }
        let ProjectConfig { setup, ports } = config.unwrap_or_default();
        if let Some(taken) = above.filter(|_| !in_place) {
            self.app.ui.warn(no_branches(&taken));
        }
        let (place, set_up) = if in_place {
            refuse_twins(self.client, &self.machine).await?;
            let place = Place::InPlace {
                dir: dir.to_owned(),
                machine: self.machine.clone(),
            };
            (place, None)
        } else {
            let checkout = match checkout {
                Some(checkout) => checkout,
                None => directory::take(self.app, dir, &project.id, &self.mirror).await?,
            };
            let set_up = set_up::gather(&self.app.ui, uploads, &checkout, setup).await?;
            (self.repository(uploads, checkout, &project).await?, set_up)
        };
        Ok(Found {
            project,
            place,
            set_up,
            ports,
        })
    }

    async fn repository(
        &mut self,
        uploads: &mut Uploads,
        checkout: Checkout,
        project: &ProjectRef,
    ) -> Result<Place> {
        let memory = self
            .app
            .state
            .client()
            .join("sources")
            .join(format!("{}.json", project.id));
        let mut chain = Chain::load(memory);
        chain.forget(&missing(self.client, &chain.bundles()).await?);
        let taken = source::take(self.app.ui, checkout).await?;
        for warning in &taken.snapshot.warnings {
            self.app.ui.warn(crate::ui::escape::naming(warning));
        }
        let (snapshot, bundles) = source::bundle(self.app.ui, taken, &mut chain, uploads).await?;
        self.chains.push(chain);
        Ok(Place::Repository {
            commit: snapshot.commit.clone(),
            head: snapshot.head.clone(),
            branch: snapshot.branch.clone(),
            bundles,
            ignore_rules: snapshot.ignore_rules.clone(),
        })
    }
}

/// The task of the attempt `agent`, where the project is at its workspace: that is called as the attempt.
fn task_at(agent: &str, project: &ProjectRef) -> Option<TaskId> {
    let attempt: AttemptId = agent.parse().ok()?;
    (project.name == attempt.to_string()).then_some(attempt.task)
}

/// The project at its place, under the name and id of another.
fn called_as(at: ProjectRef, project: &Project) -> Result<ProjectRef> {
    let id = project.id.parse();
    Ok(ProjectRef {
        id: id.map_err(|_| refused(Refused::new("project", "is no id")))?,
        name: project.name.clone(),
        ..at
    })
}

/// That a branch of the user's keeps those of tasks from being made.
fn no_branches(taken: &str) -> String {
    format!(
        "a branch `{taken}` is in the place of all `{taken}/…`, so that no task can have a branch here; give it \
         another name: `git branch --move {taken} NAME`"
    )
}

fn git_directory(dir: &Path) -> Error {
    let message = format!(
        "`{}` is a git directory: what an agent writes to hooks and configuration there, git runs as you",
        dir.display()
    );
    Error::new(Exit::Refused, message).hint(
        "go into a work tree of it (the directory above `.git`, or what `git clone` or `git worktree add` \
         makes of it); `--no-repo` works without one",
    )
}

fn of_state(dir: &Path, state: &Path) -> Error {
    let message = match dir == state {
        true => format!("`{}` is a state directory of Orchestra", dir.display()),
        false => format!(
            "`{}` is in `{}`, a state directory of Orchestra",
            dir.display(),
            state.display()
        ),
    };
    Error::new(
        Exit::Refused,
        format!("{message}: an agent would get its keys"),
    )
    .hint("go into the project's own directory; `--no-repo` works without one")
}

/// The directory that the task is about.
fn named_directory(draft: &Draft, base: &Path) -> Result<PathBuf> {
    let named = draft
        .repo
        .as_ref()
        .map_or_else(|| PathBuf::from("."), |dir| base.join(dir));
    let dir = named
        .canonicalize()
        .or_failed(|| format!("failed to find the directory `{}`", named.display()))?;
    if !dir.is_dir() {
        return Err(Error::failed(format!(
            "`{}` is not a directory",
            named.display()
        )));
    }
    if dir.to_str().is_none() {
        return Err(
            Error::failed(format!("the path `{}` is not UTF-8", dir.display()))
                .hint("rename the directory"),
        );
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str) -> ProjectRef {
        ProjectRef {
            id: "git-1".parse().unwrap(),
            name: name.to_owned(),
            dir: PathBuf::from("/state/worker/workspaces").join(name),
            machine: "here".parse().unwrap(),
        }
    }

    #[test]
    fn only_what_an_agent_queues_in_its_own_workspace_is_of_its_tasks_project() {
        assert_eq!(task_at("task_003.2", &at("task_003.2")), Some(TaskId(3)));
        for (agent, name) in [
            ("task_003.2", "website"),
            ("task_003.2", "task_003.1"),
            ("website", "website"),
        ] {
            assert_eq!(task_at(agent, &at(name)), None, "{agent} {name}");
        }
        let project = Project {
            id: "dir-1".to_owned(),
            name: "website".to_owned(),
            dir: "/home/me/website".to_owned(),
            machine: "there".to_owned(),
        };
        let called = called_as(at("task_003.2"), &project).unwrap();
        assert_eq!((called.id.as_str(), &*called.name), ("dir-1", "website"));
        assert_eq!(called.dir, at("task_003.2").dir);
        assert_eq!(called.machine, at("x").machine);
    }
}
