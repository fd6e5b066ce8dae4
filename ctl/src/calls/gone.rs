//! A task that was followed, and that the head does not know any more: retention forgot it, or the head comes
//! from a backup that was made before the task was added.

use orchestra_types::TaskId;

use crate::{
    client::Client,
    error::{Error, Result},
    exit::Exit,
    json::{fleet::Restored, task::Task},
};

impl Client {
    /// What the head says of a task now. One that has ended may be gone before anybody asks again: then its
    /// end counts that was seen.
    pub(super) async fn unless_gone(&self, now: Result<Task>, known: Task) -> Result<Task> {
        match now {
            Ok(now) if is_same(&now, &known) => Ok(now),
            Err(error) if error.exit() != Exit::NotFound => Err(error),
            Ok(_) | Err(_) if known.rests() => Ok(known),
            Ok(_) => Err(other_of_that_id(known.id)),
            // A head that cannot say where its state comes from has only forgotten, as far as is known.
            Err(_) => {
                let restored = self.status().await.ok().and_then(|head| head.restored);
                Err(gone(&known, restored))
            }
        }
    }
}

/// Whether both are one task. After a restore an id may be given again.
pub fn is_same(now: &Task, known: &Task) -> bool {
    (now.id, now.created_at) == (known.id, known.created_at)
}

fn gone(known: &Task, restored: Option<Restored>) -> Error {
    match restored {
        Some(restored) if restored.lacks(known.created_at) => lacking(known.id, restored),
        Some(_) | None => forgotten(known.id),
    }
}

fn lacking(id: TaskId, restored: Restored) -> Error {
    let Restored { at, backup_at } = restored;
    let why = format!(
        "{id} was added after {backup_at}, and the head was restored at {at} from the backup of then: it does not \
         know the task any more"
    );
    Error::new(Exit::NotFound, why).hint(after_restore("add it again where it is still wanted"))
}

fn other_of_that_id(id: TaskId) -> Error {
    let why = format!(
        "{id} is another task now: the head was restored from a backup of before the one that was followed, and has \
         given its id again"
    );
    let hint = format!("`ctl show {id}` shows what has that id now; add the other one again");
    Error::new(Exit::NotFound, why).hint(after_restore(&hint))
}

fn after_restore(first: &str) -> String {
    format!(
        "{first}; what an attempt of it had done is put aside on its worker's machine, where that held it still: \
         `ctl workers gc WORKER --dry-run` names it"
    )
}

pub(super) fn forgotten(id: TaskId) -> Error {
    let why = format!("{id} has ended, and is forgotten before its end was seen");
    Error::new(Exit::NotFound, why)
        .hint("`retention.finished_max` in the head's orchestra.yaml says how many are kept")
}
