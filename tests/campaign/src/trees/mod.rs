//! Generated work trees: what an agent could leave behind, and whether every form of the result
//! says the same.
//!
//! ```text
//! seed ─► base tree ─► user's repository ─► workspace ─► edits of an "agent" ─► collect
//!            │                                                                   │
//!            └─ the model of the edits ───► expected tree ◄── compare ── patch, bundle, manifest, apply
//! ```

mod check;
mod make;
mod model;
mod names;
mod round;

pub(crate) use round::{Round, Seen};
