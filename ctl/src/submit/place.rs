//! Where a task works: on a snapshot of the repository, or in the directory itself.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use orchestra_repo::{Checkout, project_ref};
use orchestra_types::{MachineId, Place, ProjectRef, TaskSpec};

use super::{
    draft::Draft,
    source::{self, Chain},
    upload::{Uploads, missing},
};
use crate::{
    app::App,
    blocking::blocking,
    client::Client,
    error::{Error, OrFailed, Result},
};

/// The places of one submission: each repository is looked at once.
pub struct Places<'a> {
    app: &'a App,
    client: &'a Client,
    machine: MachineId,
    mirror: String,
    known: BTreeMap<(PathBuf, InPlace), (ProjectRef, Place)>,
    chains: Vec<Chain>,
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
        let key = (directory(draft, base)?, draft.in_place.unwrap_or(false));
        if !self.known.contains_key(&key) {
            let found = self.look(uploads, &key.0, key.1).await?;
            self.known.insert(key.clone(), found);
        }
        let (project, place) = self.known[&key].clone();
        spec.project = Some(project);
        spec.place = place;
        Ok(())
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
    ) -> Result<(ProjectRef, Place)> {
        let (path, machine) = (dir.to_owned(), self.machine.clone());
        let (checkout, project) = blocking(move || {
            let failed = || format!("failed to look at `{}`", path.display());
            let checkout = Checkout::discover(&path).or_failed(failed)?;
            Ok((checkout, project_ref(&path, &machine).or_failed(failed)?))
        })
        .await?;
        let place = match checkout {
            Some(checkout) if !in_place => self.repository(uploads, checkout, &project).await?,
            Some(_) | None => Place::InPlace {
                dir: dir.to_owned(),
                machine: self.machine.clone(),
            },
        };
        Ok((project, place))
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
        if !missing(self.client, &chain.bundles()).await?.is_empty() {
            chain.forget();
        }
        let taken = source::take(checkout, &self.mirror).await?;
        for warning in &taken.snapshot.warnings {
            self.app.ui.warn(crate::ui::escape::line(warning));
        }
        let (snapshot, bundles) = source::bundle(taken, &mut chain, uploads).await?;
        self.chains.push(chain);
        Ok(Place::Repository {
            commit: snapshot.commit.clone(),
            head: snapshot.head.clone(),
            branch: snapshot.branch.clone(),
            bundles,
        })
    }
}

/// The directory that the task is about.
fn directory(draft: &Draft, base: &Path) -> Result<PathBuf> {
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
