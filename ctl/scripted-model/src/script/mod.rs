//! Scripts: what the model does for which conversation.

mod builtin;
mod load;
mod model;
mod trouble;

pub use builtin::{BUILTIN_NAMES, builtin};
pub use load::{LoadError, load, parse};
pub use model::{Action, Rule, Script, Step, UsageNumbers, When};
pub use trouble::{Trouble, TroubleKind};
