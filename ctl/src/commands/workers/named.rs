//! Workers by their names.

use crate::{
    error::{Error, Result},
    exit::Exit,
    json::fleet::Worker,
    ui::suggest::did_you_mean,
};

/// Which workers.
#[derive(Debug, clap::Args)]
pub struct Named {
    /// The workers, by name or id
    #[arg(value_name = "WORKER", required = true)]
    workers: Vec<String>,
}

impl Named {
    /// The words themselves.
    pub fn as_typed(&self) -> &[String] {
        &self.workers
    }

    /// The workers that are meant, or which is not known.
    pub fn of<'w>(&self, known: &'w [Worker]) -> Result<Vec<&'w Worker>> {
        let mut found: Vec<&Worker> = Vec::new();
        for name in &self.workers {
            let worker = find(known, name)?;
            if !found.iter().any(|other| other.id == worker.id) {
                found.push(worker);
            }
        }
        Ok(found)
    }
}

/// The worker that is meant, or that it is not known.
pub fn find<'w>(known: &'w [Worker], name: &str) -> Result<&'w Worker> {
    let by_id = known.iter().find(|w| w.id.as_str() == name);
    let mut by_name = known.iter().filter(|w| w.name == name);
    match (by_id.or_else(|| by_name.next()), by_name.next()) {
        (Some(worker), None) => Ok(worker),
        (Some(_), Some(_)) => Err(Error::new(
            Exit::Refused,
            format!("several workers have the name `{name}`"),
        )
        .hint("use the id: `ctl workers -v` shows it")),
        (None, _) => {
            let guess = did_you_mean(name, known.iter().map(|w| w.name.as_str()));
            Err(Error::new(
                Exit::NotFound,
                format!("there is no worker `{name}`{guess}"),
            )
            .hint("`ctl workers` lists all of them"))
        }
    }
}
