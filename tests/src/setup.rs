//! What a cluster of a test is made of.

use std::collections::BTreeMap;

/// A shell command that lasts until [`crate::Cluster::open_gate`], so that a test can look at a task
/// while it runs. For scripts, in which `@DIR@` is the cluster's directory.
pub const GATE: &str = "until [ -e @DIR@/gate ]; do sleep 0.05; done";

/// What a cluster is made of.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    pub(crate) agents: Vec<String>,
    pub(crate) script: Option<String>,
    pub(crate) scenario: String,
    pub(crate) config: String,
    pub(crate) runners: BTreeMap<String, String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) real_clis: bool,
}

impl Setup {
    /// Head and local worker, no model.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many of a runner may run at once, as `claude:2`.
    #[must_use]
    pub fn agents(mut self, agents: &str) -> Self {
        self.agents.push(agents.to_owned());
        self
    }

    /// Adds a scripted model that every CLI is pointed at.
    #[must_use]
    pub fn model(mut self, script: &str) -> Self {
        self.script = Some(script.to_owned());
        self
    }

    /// Makes the model misbehave for every request: `401`, `429`, `500`, ….
    #[must_use]
    pub fn scenario(mut self, scenario: &str) -> Self {
        self.scenario = format!("/s/{scenario}");
        self
    }

    /// Configures one runner, as YAML on one line.
    #[must_use]
    pub fn runner(mut self, name: &str, yaml: &str) -> Self {
        self.runners.insert(name.to_owned(), yaml.to_owned());
        self
    }

    /// Adds to `orchestra.yaml`; for `runners` there is [`Setup::runner`].
    #[must_use]
    pub fn config(mut self, yaml: &str) -> Self {
        self.config.push_str(yaml);
        self
    }

    /// Sets an environment variable of everything that the cluster starts.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Puts the real CLIs on PATH.
    #[must_use]
    pub fn real_clis(mut self) -> Self {
        self.real_clis = true;
        self
    }
}
