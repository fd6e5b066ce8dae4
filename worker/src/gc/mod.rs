//! Housekeeping: what may be removed from a worker's directory, why, and its removal.
//!
//! What an attempt made is here only until the head has it; that is removed by the attempt itself. This is
//! about the rest: caches, work trees made in advance, and what was put aside for a person.

mod plan;
mod remove;
mod survey;

pub use plan::{Item, Kind, Removal, Why, plan};
pub use survey::Places;

/// Finds out what may be removed. Nothing is changed. Reads all directories: call it from a
/// blocking thread.
#[must_use]
pub fn look(places: &Places) -> Vec<Removal> {
    plan(survey::items(places))
}

/// Removes it, as long as nobody has begun to use it. What could not be removed is logged and
/// tried again the next time. How many bytes were freed.
pub fn sweep(removals: &[Removal]) -> u64 {
    let mut freed = 0;
    for removal in removals {
        let item = &removal.item;
        match remove::remove(item) {
            Ok(true) => {
                tracing::info!(path = %item.path.display(), why = %removal.why, "removed");
                freed += item.bytes;
            }
            Ok(false) => tracing::debug!(path = %item.path.display(), "in use again"),
            Err(error) => {
                tracing::warn!(path = %item.path.display(), %error, "cannot be removed");
            }
        }
    }
    freed
}

#[cfg(test)]
mod tests;
