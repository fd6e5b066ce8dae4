//! The journey of a change, with real repositories.
#![expect(clippy::unwrap_used, reason = "tests, where a panic is the report")]

mod after;
mod agents_git;
mod applied;
mod attempts;
mod branches;
mod by_hand;
mod canary;
mod common;
mod damage;
mod directory;
mod discard;
mod edited;
mod hostile;
mod ignored;
mod in_use;
mod liar;
mod linked;
mod look;
mod mirror;
mod others;
mod overlooked;
mod reclaim;
mod same_second;
mod same_state;
mod settings;
mod spare;
mod special;
mod submodules;
mod tags;
mod trees;
mod two_clusters;
mod uncommitted;
mod unfinished;
mod unmerged;
mod way;
