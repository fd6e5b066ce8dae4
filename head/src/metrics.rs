//! The head's own metrics: what is counted, and the endpoint that shows it.
//!
//! `docs/metrics.md` names every instrument with its unit. The same instruments go out over OTLP
//! and as Prometheus text; this room does not know which of the two is on.

mod ends;
mod http;
mod instruments;
mod levels;
mod uses;

#[cfg(test)]
pub(crate) mod tests;

pub use http::{router, serve};
pub use instruments::Metrics;
pub use levels::Levels;
