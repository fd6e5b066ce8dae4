//! The head's own files of each project's context, and what is done with them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use orchestra_config::{ContextConfig, durable};
use orchestra_proto::v1::ContextDoc;
use orchestra_repo::{Checkout, may_mirror};
use orchestra_types::{MachineId, ProjectId, ProjectRef, TaskId, TaskSpec, limits};
use serde::de::DeserializeOwned;

use crate::subtask::queued_in;

use super::{
    COMPLETED, DOCUMENT_BYTES_MAX, EDITABLE, OUTPUT_BYTES_MAX, OUTPUTS, OVERVIEW, STATE,
    copies::COPIES_MAX,
    excluded::Excluded,
    ground::Grounds,
    mirror::{Mirror, Written},
    own::{self, Own},
    record::ClosingTask,
    render::{self, Completed, OVERVIEW_TEMPLATE},
};

const MIRROR: &str = "mirror.json";
/// Largest file of ours.
pub(super) const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most bytes of outputs in one answer to `ctl context pull`, newest first; below the largest
/// gRPC message.
const GET_BYTES_MAX: usize = 6 * 1024 * 1024;

/// Why the context could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The head's own files.
    #[error("failed to read or write the context of project {project}")]
    Files {
        /// Whose.
        project: ProjectId,
        /// Why.
        source: io::Error,
    },
    /// A file that is not what was written.
    #[error("the context of project {project} is damaged on disk")]
    Damaged {
        /// Whose.
        project: ProjectId,
        /// Which file, and what to do.
        source: io::Error,
    },
    /// A document that nobody may put.
    #[error("`{name}` cannot be changed; only {OVERVIEW} and {STATE} can")]
    NotEditable {
        /// Which.
        name: String,
    },
    /// A document that is too large.
    #[error("`{name}` has {size} bytes, the limit is 256 KiB")]
    TooLarge {
        /// Which.
        name: String,
        /// How large.
        size: usize,
    },
    /// Nothing is known of the project.
    #[error("project {project} has no context yet")]
    Unknown {
        /// Which.
        project: ProjectId,
    },
}

/// The context of all projects. One task of a project at a time changes it.
pub struct Store {
    pub(super) root: PathBuf,
    pub(super) below: String,
    pub(super) enabled: bool,
    /// Most copies of removed outputs of a project that are noted.
    pub(super) copies_max: usize,
    machine: MachineId,
    owners: Mutex<HashMap<ProjectId, Arc<Mutex<Known>>>>,
    excluded: Mutex<BTreeMap<PathBuf, Excluded>>,
    grounds: Grounds,
}

impl Store {
    /// The store at `root` (`STATE/head/context`) of the head on `machine`.
    #[must_use]
    pub fn new(root: &Path, config: &ContextConfig, machine: MachineId) -> Self {
        Self {
            root: root.to_owned(),
            below: config.directory.clone(),
            enabled: config.enabled,
            copies_max: COPIES_MAX,
            grounds: Grounds::new(machine.clone(), config.directory.clone()),
            machine,
            owners: Mutex::default(),
            excluded: Mutex::default(),
        }
    }

    /// One that notes no more copies of removed outputs than this.
    #[cfg(test)]
    pub fn noting_at_most(mut self, copies: usize) -> Self {
        self.copies_max = copies;
        self
    }

    /// What the agent of a new attempt is given: the overview, the current state, and the outputs
    /// of the tasks that it comes after.
    pub fn documents_for(
        &self,
        spec: &TaskSpec,
        outputs: &[(TaskId, String)],
    ) -> Result<Vec<ContextDoc>, Error> {
        if !self.enabled {
            return Ok(Vec::new());
        }
        let mut documents = Vec::new();
        if let Some(project) = &spec.project {
            documents = self.editable_documents(project)?;
        }
        documents.extend(outputs.iter().map(|(task, text)| ContextDoc {
            name: format!("{OUTPUTS}/{}", render::output_name_of(&task.to_string())),
            text: limits::cut(text, DOCUMENT_BYTES_MAX),
        }));
        Ok(documents)
    }

    fn editable_documents(&self, project: &ProjectRef) -> Result<Vec<ContextDoc>, Error> {
        self.owned(&project.id, |files| {
            if let Whose::Ours(mirror) = self.mirror(project) {
                files.adopt(&mirror)?;
            }
            let mut documents = Vec::new();
            for name in EDITABLE {
                match files.text_if_whole(name)? {
                    Some(text) if says_something(name, &text) => documents.push(ContextDoc {
                        name: name.to_owned(),
                        text,
                    }),
                    Some(_) | None => {}
                }
            }
            Ok(documents)
        })
    }

    /// Records a task that has ended. May be called again for the same task, and gives the same;
    /// an earlier attempt never overwrites a later one. A task without project leaves no trace.
    pub fn record(&self, task: &ClosingTask) -> Result<(), Error> {
        let Some(project) = task.spec.project.as_ref().filter(|_| self.enabled) else {
            return Ok(());
        };
        self.owned(&project.id, |files| {
            // Into a workspace nothing comes that its agent did not make: it would be in the result.
            let mirror = match queued_in(&task.spec, project) {
                Some(_) => Whose::Elsewhere,
                None => self.mirror(project),
            };
            if let Whose::Ours(mirror) = &mirror {
                files.adopt(mirror)?;
            }
            let Recorded::New(list) = files.record(task)? else {
                return Ok(());
            };
            match &mirror {
                Whose::Ours(mirror) => {
                    self.exclude_from_git(&project.dir);
                    files.show(mirror, task, &list);
                }
                Whose::Theirs => self.warn_of_theirs(&project.dir),
                Whose::Anothers => warn_of_anothers(project),
                Whose::Elsewhere => {}
            }
            Ok(())
        })
    }

    /// Every document of a project, by path: for `ctl context pull`.
    pub fn get(&self, project: &ProjectId) -> Result<BTreeMap<String, String>, Error> {
        if !self.root.join(project.as_str()).is_dir() {
            return Err(Error::Unknown {
                project: project.clone(),
            });
        }
        self.owned(project, |files| {
            for dir in files.written()?.dirs() {
                if let Whose::Ours(mirror) = self.mirror_in(&dir, project) {
                    files.adopt(&mirror)?;
                }
            }
            files.all()
        })
    }

    /// Replaces what people may change: for `ctl context push`. All of it or nothing.
    pub fn put(
        &self,
        project: &ProjectId,
        documents: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        for (name, text) in documents {
            if !EDITABLE.contains(&name.as_str()) {
                return Err(Error::NotEditable { name: name.clone() });
            }
            if text.len() > DOCUMENT_BYTES_MAX {
                return Err(Error::TooLarge {
                    name: name.clone(),
                    size: text.len(),
                });
            }
        }
        self.owned(project, |files| {
            for dir in files.written()?.dirs() {
                if let Whose::Ours(mirror) = self.mirror_in(&dir, project) {
                    files.adopt(&mirror)?;
                }
            }
            for (name, text) in documents {
                files.write(name, text)?;
            }
            files.renew_state()?;
            for dir in files.written()?.dirs() {
                if let Whose::Ours(mirror) = self.mirror_in(&dir, project) {
                    files.show_editable(&mirror);
                }
            }
            Ok(())
        })
    }

    /// Runs `work` while nobody else touches this project.
    pub(super) fn owned<T>(
        &self,
        project: &ProjectId,
        work: impl FnOnce(&Files) -> io::Result<T>,
    ) -> Result<T, Error> {
        let owner = {
            let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(owners.entry(project.clone()).or_default())
        };
        // Files are replaced whole, so a panic of another owner cannot have left half of one.
        let mut known = owner.lock().unwrap_or_else(PoisonError::into_inner);
        // What is known after an error, or a panic, is read again.
        let completed = known.completed.take();
        let worked = Files::open(&self.root, project, completed).and_then(|files| {
            let done = work(&files)?;
            known.completed = files.completed.take();
            Ok(done)
        });
        worked.map_err(|source| {
            let project = project.clone();
            match own::is_damage(&source) {
                true => Error::Damaged { project, source },
                false => Error::Files { project, source },
            }
        })
    }

    /// The project's mirror, when its directory is on this machine.
    fn mirror<'a>(&'a self, project: &'a ProjectRef) -> Whose<'a> {
        match project.dir.to_str() {
            Some(dir) if project.machine == self.machine => self.mirror_in(dir, &project.id),
            Some(_) | None => Whose::Elsewhere,
        }
    }

    pub(super) fn mirror_in<'a>(&'a self, dir: &'a str, project: &ProjectId) -> Whose<'a> {
        let path = Path::new(dir);
        if !may_mirror(path, &self.below) {
            return Whose::Theirs;
        }
        let ground = match self.grounds.look(path, project) {
            Ok(ground) => ground,
            // A git that does not answer may have files there.
            Err(error) => {
                warn(path, &io::Error::other(error));
                return Whose::Theirs;
            }
        };
        match (ground.is_of(project), ground.tracked) {
            (false, _) => Whose::Anothers,
            (true, true) => Whose::Theirs,
            (true, false) => Whose::Ours(Mirror {
                dir,
                below: &self.below,
            }),
        }
    }

    fn warn_of_theirs(&self, dir: &Path) {
        tracing::warn!(
            dir = %dir.join(&self.below).display(),
            "the context is not mirrored: the directory is not there, or has files of the project's \
             own; `context.directory` gives it another name"
        );
    }

    /// Git is not asked again after every task, only where the directory has another repository since.
    fn exclude_from_git(&self, dir: &Path) {
        let excluded = || self.excluded.lock().unwrap_or_else(PoisonError::into_inner);
        if excluded().get(dir).is_some_and(Excluded::holds) {
            return;
        }
        let done = Checkout::discover(dir).and_then(|checkout| match checkout {
            Some(checkout) => checkout.exclude_from_git(&self.below).map(Some),
            None => Ok(None),
        });
        let file = done.unwrap_or_else(|error| {
            warn(dir, &io::Error::other(error));
            None
        });
        excluded().insert(dir.to_owned(), Excluded::now(dir, file));
    }
}

fn warn_of_anothers(project: &ProjectRef) {
    tracing::warn!(
        project = %project.id,
        dir = %project.dir.display(),
        "the context is not mirrored: the directory has another project now"
    );
}

/// Whose the directory of a mirror is.
pub(super) enum Whose<'a> {
    Ours(Mirror<'a>),
    /// The project has files of its own there.
    Theirs,
    /// The directory has another project since.
    Anothers,
    /// It is on another machine.
    Elsewhere,
}

/// What recording gave.
enum Recorded {
    /// The list with the task in it.
    New(Vec<Completed>),
    /// A later attempt was recorded before.
    Stale,
}

/// What is known of a project's files without reading them.
#[derive(Default)]
struct Known {
    /// The list of completed tasks; only this process writes it.
    completed: Option<Vec<Completed>>,
}

/// One project's files, owned.
pub(super) struct Files {
    pub(super) project: ProjectId,
    pub(super) folder: Own,
    completed: RefCell<Option<Vec<Completed>>>,
}

impl Files {
    fn open(
        root: &Path,
        project: &ProjectId,
        completed: Option<Vec<Completed>>,
    ) -> io::Result<Self> {
        durable::create_private_dir(root)?;
        let folder = Own::open(root, project.as_str())?;
        Ok(Self {
            project: project.clone(),
            folder,
            completed: RefCell::new(completed),
        })
    }

    /// The list of completed tasks, read once.
    pub(super) fn completed(&self) -> io::Result<Vec<Completed>> {
        if let Some(known) = &*self.completed.borrow() {
            return Ok(known.clone());
        }
        let list: Vec<Completed> = self.json(COMPLETED)?;
        self.completed.replace(Some(list.clone()));
        Ok(list)
    }

    /// Replaces the list. Its text.
    pub(super) fn write_completed(&self, list: Vec<Completed>) -> io::Result<String> {
        let text = self.write_json(COMPLETED, &list)?;
        self.completed.replace(Some(list));
        Ok(text)
    }

    pub(super) fn text(&self, name: &str) -> io::Result<Option<String>> {
        let bytes = self.folder.read(name, FILE_BYTES_MAX)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    pub(super) fn write(&self, name: &str, text: &str) -> io::Result<()> {
        self.folder.write(name, text.as_bytes())
    }

    pub(super) fn written(&self) -> io::Result<Written> {
        self.json(MIRROR)
    }

    /// A damaged list of ours is begun anew. What it said of tasks the head knows elsewhere; what it said of mirrors
    /// nobody does: copies of removed outputs stay there for good.
    pub(super) fn json<T: DeserializeOwned + Default>(&self, name: &str) -> io::Result<T> {
        let Some(text) = self.text_or_aside(name)? else {
            return Ok(T::default());
        };
        Ok(serde_json::from_str(&text).unwrap_or_else(|error| {
            tracing::warn!(project = %self.project, name, %error, "a context file is begun anew");
            T::default()
        }))
    }

    pub(super) fn write_json(
        &self,
        name: &str,
        value: &impl serde::Serialize,
    ) -> io::Result<String> {
        let mut text = serde_json::to_string_pretty(value).expect("texts and numbers are JSON");
        text.push('\n');
        self.write(name, &text)?;
        Ok(text)
    }

    /// Takes over what people changed in the mirror. What cannot be read costs a warning.
    fn adopt(&self, mirror: &Mirror<'_>) -> io::Result<()> {
        let written = self.written()?;
        for name in EDITABLE {
            let current = self.text_or_mended(name, mirror)?;
            match mirror.edited(&written, name, current.as_deref()) {
                Ok(Some(text)) => {
                    tracing::info!(project = %self.project, name, "adopted a person's edit");
                    self.write(name, &text)?;
                }
                Ok(None) => {}
                Err(error) => warn(Path::new(mirror.dir), &error),
            }
        }
        Ok(())
    }

    /// Output first, then the list, then the state: each names only what is there already.
    fn record(&self, task: &ClosingTask) -> io::Result<Recorded> {
        let list = self.completed()?;
        let later = |known: &Completed| known.number == task.id.0 && known.attempt > task.attempt;
        if list.iter().any(later) {
            return Ok(Recorded::Stale);
        }
        let outputs = self.folder.made(OUTPUTS)?;
        outputs.write(&render::output_name(task), render::output(task).as_bytes())?;
        let list = render::with_completed(list, Completed::of(task));
        self.write_completed(list.clone())?;
        self.renew_state()?;
        if self.text_or_aside(OVERVIEW)?.is_none() {
            self.write(OVERVIEW, OVERVIEW_TEMPLATE)?;
        }
        Ok(Recorded::New(list))
    }

    /// Makes our section of the current state anew, where there is anything to say.
    fn renew_state(&self) -> io::Result<()> {
        let list = self.completed()?;
        if list.is_empty() {
            return Ok(());
        }
        let state = self.text_or_aside(STATE)?.unwrap_or_default();
        self.write(STATE, &render::state(&state, &list))
    }

    /// Shows a recorded task in the mirror. A failure costs a warning, never the result.
    fn show(&self, mirror: &Mirror<'_>, task: &ClosingTask, list: &[Completed]) {
        let list = serde_json::to_string_pretty(list).expect("texts and numbers are JSON");
        let shown = mirror
            .write_output(&render::output_name(task), &render::output(task))
            .and_then(|()| mirror.write(COMPLETED, &format!("{list}\n")));
        if let Err(error) = shown {
            warn(Path::new(mirror.dir), &error);
        }
        self.show_editable(mirror);
    }

    fn show_editable(&self, mirror: &Mirror<'_>) {
        if let Err(error) = self.try_show_editable(mirror) {
            warn(Path::new(mirror.dir), &error);
        }
    }

    /// Each hash is kept after its file is written. The other way round, a crash in between would
    /// make the mirror's old text look like a person's edit.
    fn try_show_editable(&self, mirror: &Mirror<'_>) -> io::Result<()> {
        let mut written = self.written()?;
        let before = written.clone();
        let mut shown = Ok(());
        for name in EDITABLE {
            if let Some(text) = self.text_if_whole(name)?
                && let Err(error) = mirror.write_editable(&mut written, name, &text)
            {
                shown = Err(error);
            }
        }
        if written != before {
            self.write_json(MIRROR, &written)?;
        }
        shown
    }

    fn all(&self) -> io::Result<BTreeMap<String, String>> {
        let mut documents = BTreeMap::new();
        for name in [OVERVIEW, STATE, COMPLETED] {
            if let Some(text) = self.text(name)? {
                documents.insert(name.to_owned(), text);
            }
        }
        let Some(outputs) = self.folder.existing(OUTPUTS)? else {
            return Ok(documents);
        };
        let mut left = GET_BYTES_MAX;
        let mut names = outputs.names()?;
        // Longer names have higher numbers: the newest come first.
        names.sort_by_key(|name| std::cmp::Reverse((name.len(), name.clone())));
        for name in names {
            let bytes = outputs
                .read(&name, 2 * OUTPUT_BYTES_MAX)?
                .unwrap_or_default();
            if bytes.len() > left {
                break;
            }
            left -= bytes.len();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            documents.insert(format!("{OUTPUTS}/{name}"), text);
        }
        Ok(documents)
    }
}

/// Whether an agent learns anything from it.
fn says_something(name: &str, text: &str) -> bool {
    let untouched = name == OVERVIEW && text == OVERVIEW_TEMPLATE;
    !untouched && !text.trim().is_empty()
}

pub(super) fn warn(dir: &Path, error: &io::Error) {
    tracing::warn!(dir = %dir.display(), %error, "the mirror of the context is not up to date");
}
