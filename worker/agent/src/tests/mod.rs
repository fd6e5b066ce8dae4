//! Whole runs against the scripted model, in this process.

mod harness;
mod loops;
mod process;
mod troubles;
