//! The shared context of projects: what a task knows of those before it.
//!
//! ```text
//! STATE/head/context/<project>/project_overview.md      people write it, agents read it
//!                             /current_state.md         people's text, and a section of ours
//!                             /completed_tasks.json     the last tasks, newest last
//!                             /agent_outputs/task_001_output.md
//!                             /mirror.json              what we last wrote into which directory
//!                             /copies.json              outputs that are gone here, and may be in a mirror
//!                             /format                   says that each of these has a checksum
//! <project's directory>/context/                        a mirror of the first four, for people
//! ```
//!
//! The first line of each of the head's files has the SHA-256 of the rest (see `sum`); the mirror's
//! files are plain. What is damaged is named and never served: where the mirror still has the same
//! text it comes back from there, else it is set aside under another name before it is replaced.
//!
//! The head's files are the truth; the mirror exists only where the project's directory is on the
//! head's own machine. What people change in the mirror is adopted before the next task and before
//! we write there. A directory of that name that is the project's own is left alone: one with files that
//! git tracks, or with others than ours; so is a directory that has another project since. Nothing about a mirror can fail a task: it costs a warning.
//!
//! Outputs go when they are too many or too old and their task is forgotten (see `outputs`): first ours, with a
//! note of their copies (see `copies`), then those copies in mirrors that are still the text that we wrote.
//!
//! Everything here blocks: async callers use `spawn_blocking`.

mod check;
mod copies;
mod damage;
mod excluded;
mod folder;
mod ground;
mod mirror;
mod outputs;
mod own;
mod record;
mod removal;
mod render;
mod store;
mod sum;

#[cfg(test)]
mod tests;

pub use check::{Checked, check};
pub use outputs::{Due, Gone, Keep};
pub use record::ClosingTask;
pub use store::{Error, Store};

/// The description of the project, written by people.
pub const OVERVIEW: &str = "project_overview.md";
/// Where the project stands: people's text and a generated section.
pub const STATE: &str = "current_state.md";
/// The last tasks that ended.
pub const COMPLETED: &str = "completed_tasks.json";
/// The directory of the tasks' outputs.
pub const OUTPUTS: &str = "agent_outputs";
/// What people may change.
pub const EDITABLE: [&str; 2] = [OVERVIEW, STATE];

/// Largest document that is read, stored or given to an agent: 256 KiB.
const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// Longest output that is kept of one task: 1 MiB; the whole text is an artifact.
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;
