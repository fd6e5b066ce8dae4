//! Safe git: snapshots of a user's checkout, private clones for agents, what an agent changed,
//! and the way of a change back into the user's checkout.
//!
//! This crate is the only one that runs `git`. Everything here is synchronous and may take
//! long: async callers use `spawn_blocking`.
//!
//! Two kinds of repository exist. The user's own ([`Checkout`]) is trusted with its own
//! configuration, except for what could start programs. Ours ([`Cache`], [`Workspace`]) are
//! trusted, but never what lies in their work trees: an agent's `.git` is read as data, and no
//! git process ever sees its configuration.
#![warn(missing_docs)]

mod absent;
mod action;
mod agent_refs;
mod apply;
mod bare;
mod base;
mod beneath;
mod branches;
mod broken;
mod cache;
mod checkout;
mod choice;
mod collect;
mod common;
mod converted;
mod damage;
mod detached;
mod directory;
mod discard;
mod earlier;
mod error;
mod filters;
mod generation;
mod git;
mod harmless;
mod hidden;
mod history;
mod ignore_rules;
mod ignored;
mod import;
mod in_use;
mod index;
mod last_write;
mod linked;
mod lock;
mod look;
mod lost;
mod manifest;
mod merge;
mod mirror;
mod names;
mod narrowed;
mod others;
mod own_branch;
mod places;
mod quarantine;
mod reach;
mod received;
mod reclaim;
mod rewound;
pub mod scan;
mod scratch;
mod severed;
mod snapshot;
mod spare;
mod special;
mod spread;
mod stage;
mod submodules;
mod taken;
mod temporary;
mod told;
mod uncommitted;
mod unfinished;
mod workspace;

pub use apply::{
    Applied, ApplyError, Attempted, Bit, Change, apply, apply_if, keeps_from_merging, not_noted,
    unseen_bits,
};
pub use base::{Base, Predecessor};
pub use branches::{Keeper, Removal, TaskBranch, remove_branch, task_branches};
pub use cache::Cache;
pub use checkout::{Checkout, project_ref, project_ref_without_commit, projects_of};
pub use collect::{Collect, Collected};
pub use directory::{DIRECTORY_BYTES_MAX, DIRECTORY_FILES_MAX};
pub use earlier::Earlier;
pub use error::{Error, GIT_MIN, Result, says_full};
pub use generation::Generation;
pub use git::{find_git, look_for_git};
pub use ignored::{Ignored, Put, put_ignored};
pub use import::{
    BranchHere, Others, branch_above_ours, branch_here, import_branch, import_others, others_in,
    task_branch,
};
pub use in_use::Held;
pub use last_write::{LastWrite, last_write};
pub use lost::{Keeping, OnlyHere, only_here};
pub use mirror::{may_mirror, mirror_paths, mirrored_in};
pub use names::listed;
pub use own_branch::{BadName, OwnBranch, import_branch_as};
pub use received::Received;
pub use scratch::scratch;
pub use snapshot::{Bundled, Snapshot};
pub use spread::spread;
pub use temporary::Temporary;
pub use told::Told;
pub use workspace::{Plan, Workspace};
