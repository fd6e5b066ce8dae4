//! The campaign: breaks the built head, worker and the network between them on purpose, round after
//! round, and compares what is left with what was acknowledged.
//!
//! ```text
//! load (32 submitters, a fake worker) ──► head process ──► state directory
//!        │ what was acknowledged              ▲ kill -9, loss of power, full disk,
//!        ▼                                    │ I/O errors, flipped bits
//!      ledger ◄────────── verify ─────── head process, started again
//! ```
//!
//! ```text
//! agents (shell) ──► worker process ──► network ──► head process
//!    │ what they say     ▲ kill -9, full disk  ▲ cut, half open, lossy
//!    ▼                                                    │
//! side files ◄─────────────── results ◄───────────────────┘
//! ```
//!
//! It speaks the wire protocol and links neither head nor worker. One file per proof is in
//! `proofs`; the same functions run with the figures of the full campaign (`campaign` binary) and
//! with a share of them as tests.
#![warn(missing_docs)]

mod agents;
mod client;
mod daemon;
mod figures;
mod head;
mod helper;
mod hostile;
mod ledger;
mod load;
mod picture;
mod proofs;
mod report;
mod results;
mod submitter;
mod trees;
mod verify;
mod worker;

pub use figures::Share;
pub use hostile::hidden;
pub use proofs::{Campaign, PROOFS, Proof};
pub use report::{Row, print};
