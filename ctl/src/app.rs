//! What every command is given: the output streams, the state directory, the configuration.

use std::path::PathBuf;

use orchestra_config::{Config, StateDir};
use orchestra_types::MachineId;

use crate::{
    cli::Global,
    client::Client,
    error::{Error, OrFailed, Result, or_untold},
    exit::Exit,
    local::{joined, record, silent},
    ui::{Ui, again::Again},
    writing::Writing,
};

/// What every command is given.
#[derive(Clone, Debug)]
pub struct App {
    /// The output streams.
    pub ui: Ui,
    /// The state directory.
    pub state: StateDir,
    /// Whether a checkout is being written to.
    pub writing: Writing,
    /// Whether tasks are being submitted.
    pub submitting: Writing,
    /// The configuration file that was named.
    config: Option<PathBuf>,
    /// The head that was named instead of the one of the state directory.
    head: Option<String>,
}

impl App {
    /// What the global options and the environment say.
    pub fn new(ui: Ui, global: &Global) -> Result<Self> {
        let state = global.state.clone().or_else(default_state).ok_or_else(|| {
            Error::usage("there is no state directory: HOME is not set")
                .hint("name one with `--state DIR`")
        })?;
        let state = std::path::absolute(&state)
            .or_failed(|| format!("failed to find the state directory `{}`", state.display()))?;
        Ok(Self {
            ui,
            state: StateDir::new(state),
            writing: Writing::default(),
            submitting: Writing::default(),
            config: global.config.clone(),
            head: global.head.clone(),
        })
    }

    /// Refuses to begin something in a state of another user, who could no longer use it.
    pub fn refuse_foreign_state(&self) -> Result<()> {
        let own = self.state.refuse_foreign();
        own.map_err(|foreign| Error::new(Exit::Refused, foreign.to_string()))
    }

    /// The same output streams for another state directory, of which nothing else is named.
    pub fn in_state(&self, state: PathBuf) -> Self {
        let again = Again::in_state(&state);
        Self {
            ui: Ui { again, ..self.ui },
            state: StateDir::new(state),
            writing: self.writing.clone(),
            submitting: self.submitting.clone(),
            config: None,
            head: None,
        }
    }

    /// The configuration file: the named one, else `orchestra.yaml` of the state directory if it
    /// is there.
    pub fn config_file(&self) -> Option<PathBuf> {
        let default = self.state.config_file();
        self.config
            .clone()
            .or_else(|| default.exists().then_some(default))
    }

    /// The configuration.
    pub fn config(&self) -> Result<Config> {
        let Some(path) = self.config_file() else {
            return Ok(Config::default());
        };
        orchestra_config::load(&path).map_err(|e| {
            Error::failed("the configuration is not valid")
                .because(e)
                .hint("docs/configuration.md has every key; `ctl config check` checks the file")
        })
    }

    /// Whether a head was named instead of the one of the state directory.
    pub fn names_head(&self) -> bool {
        self.head.is_some()
    }

    /// A connection to the head.
    pub async fn connect(&self) -> Result<Client> {
        let connected = Client::connect(self.state.client(), self.head.as_deref()).await;
        match connected {
            // To start one is no way out there.
            Err(error) if error.exit() == Exit::HeadNotRunning && !self.names_head() => {
                joined::refuse(&self.state, error.exit())?;
                Err(self.about_local_daemons(error))
            }
            connected => connected,
        }
    }

    /// The error with another next step where a head is there all the same, or a worker is left without it.
    fn about_local_daemons(&self, error: Error) -> Error {
        if let Some(hint) = self.silent_head() {
            return error.hint(hint);
        }
        match record::worker(&self.state) {
            Ok(Some(_)) => error.hint(
                "`ctl start` starts it; its worker on this machine runs, and `ctl stop` ends that",
            ),
            Ok(None) | Err(_) => error,
        }
    }

    /// The error with another next step where the head of the state directory is there and does not answer.
    pub fn about_silent_head(&self, error: Error) -> Error {
        match self.silent_head().filter(|_| !self.names_head()) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// What to do about a head that is there and does not answer; none where none is there.
    fn silent_head(&self) -> Option<String> {
        let head = record::head(&self.state).ok().flatten()?;
        Some(silent::hint(&self.state, &head))
    }

    /// The error with another next step where a head was named that cannot be reached: to start one
    /// here is no way to it.
    pub fn about_named_head(&self, error: Error) -> Error {
        match (error.exit(), self.names_head()) {
            (Exit::HeadNotRunning, true) => error.hint_elsewhere(
                "check the address after --head, or in ORCHESTRA_HEAD: `ctl status` on the head's machine \
                 says where it listens, `ctl start` there starts it",
            ),
            (_, _) => error,
        }
    }

    /// This machine.
    pub fn machine(&self) -> Result<MachineId> {
        orchestra_config::machine_id(&self.state)
            .or_failed(|| "failed to identify this machine".to_owned())
    }

    /// Data for a program, or for a person, whichever is asked for.
    pub fn show<D: serde::Serialize>(
        &self,
        document: &D,
        text: impl FnOnce(&D) -> Result<()>,
    ) -> Result<Exit> {
        if self.ui.is_json() {
            self.ui.document(document)?
        } else {
            text(document)?
        }
        Ok(Exit::Ok)
    }

    /// The same of something that was done: where nobody can be told, that is no failure to do it.
    pub fn show_done<D: serde::Serialize>(
        &self,
        document: &D,
        done: impl FnOnce() -> String,
        text: impl FnOnce(&D) -> Result<()>,
    ) -> Result<Exit> {
        or_untold(self.show(document, text), done)
    }
}

fn default_state() -> Option<PathBuf> {
    let path = |name| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    StateDir::default_path(path("XDG_STATE_HOME").as_deref(), path("HOME").as_deref())
}
