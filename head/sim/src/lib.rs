//! Seeded worlds of head, store, workers and clients, with everything between them that can go
//! wrong. A judge compares each step of the core with what must follow from it.
//!
//! ```text
//!   clients ──► calls ──► inbox ─► Core::handle ─► judge ─► disk ─► messages ──► streams ──► workers
//!                           ▲         killed between any two of these                          │
//!                           └───────── streams, cut, delayed, half dead ◄──────────────────────┘
//! ```
//!
//! The same seed gives the same world. A failure names its seed, and the command that replays it.
#![warn(missing_docs)]

pub mod cast;
pub mod cover;
pub mod disk;
pub mod event;
pub mod judge;
#[cfg(feature = "mutations")]
pub mod mutations;
pub mod plan;
pub mod random;
pub mod rule;
pub mod run;
pub mod shadow;
pub mod trace;
pub mod world;
