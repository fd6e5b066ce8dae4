//! Opening the store, and making it.

use std::path::Path;

use orchestra_config::durable;

use super::{
    Error, Result, Store, compact,
    database::Database,
    error::io_error,
    journal::{Frame, Journal, Position},
    key, large, made,
    mark::Mark,
    migrate,
    table::Table,
};
use crate::blobs::Blobs;

impl Store {
    /// Opens the store in `path`, and makes it when there never was one.
    pub fn open(path: &Path, blobs: Blobs) -> Result<Self> {
        if !Database::is_in(path)? {
            made::refuse_second(path)?;
        }
        durable::create_private_dir(path).map_err(|source| io_error("prepare", path, source))?;
        compact::remove_left_over(path)?;
        let database = Database::open(path)?;
        let dir = path.join("journal");
        let mark = Mark::open(path)?;
        let format = database.get(key::FORMAT)?;
        let (journal, recent) = match format.as_deref() {
            None => {
                made::refuse_empty(path)?;
                (begin(&database, &dir)?, Table::default())
            }
            Some([1]) => {
                migrate::from_format_1(&database)?;
                (begin(&database, &dir)?, Table::default())
            }
            Some([large::FORMAT]) => {
                let position = database
                    .get(key::JOURNAL)?
                    .ok_or_else(|| large::damaged(key::JOURNAL, "it is missing".to_owned()))?;
                Journal::open(&dir, large::position_of(&position)?, mark.number())?
            }
            Some(other) => {
                return Err(Error::Format {
                    row: format!("the database in `{}`", path.display()),
                    found: other.first().copied().unwrap_or(0),
                    known: large::FORMAT,
                });
            }
        };
        made::note(path)?;
        Ok(Self {
            path: path.to_owned(),
            database,
            journal,
            mark,
            recent,
            moving: None,
            frame: Frame::new(),
            committed: 0,
            disk: None,
            blobs,
        })
    }
}

/// The first journal. IMPORTANT: it is durable before the database says that there is one.
pub(super) fn begin(database: &Database, dir: &Path) -> Result<Journal> {
    let journal = Journal::create(dir)?;
    let mut batch = sled::Batch::default();
    batch.insert(key::JOURNAL, large::position(Position::begin()));
    batch.insert(key::FORMAT, &[large::FORMAT]);
    database.apply(batch)?;
    database.sync()?;
    Ok(journal)
}
