//! The one configuration file, `orchestra.yaml`, and the layout of the state directory.
//!
//! Reading the file is here; reading the environment is not: the caller passes it in.
#![warn(missing_docs)]

pub mod durable;
pub mod identity;
mod load;
mod message;
mod model;
mod number;
pub mod open_files;
pub mod owner;
pub mod program;
mod project;
pub mod signals;
mod state_dir;
mod value;
mod variable;

pub use identity::{boot_id, machine_id, worker_id};
pub use load::{Error, load, named_file, parse};
pub use message::key_at;
pub use model::{
    AgentRunner, BudgetsConfig, Config, ContextConfig, EventsConfig, HeadConfig, KeepConfig,
    LimitsConfig, Ports, Prefetch, Price, Protocol, QueueConfig, RunnerConfig, TelemetryConfig,
    WorkerConfig,
};
pub use project::{PROJECT_FILE, ProjectConfig, SetupConfig, load_project};
pub use state_dir::StateDir;
pub use value::{advertised, listen_address, stop_within};
pub use variable::empty_variable;
