//! The CLIs that speak ACP: how each is started, and its quirks.

use orchestra_types::FailureCode;

use super::notes::{Mark, Note};

/// How a model is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum ModelBy {
    /// By the protocol: `session/set_model` or a `model` configuration option.
    Protocol,
    /// By an argument.
    Flag(&'static str),
    /// By an environment variable.
    Env(&'static str),
}

/// One CLI.
#[derive(Debug)]
pub(in crate::cli) struct Profile {
    /// The runner's name.
    pub name: &'static str,
    /// The program, as it is found on PATH.
    pub program: &'static str,
    /// What makes it speak ACP.
    pub args: &'static [&'static str],
    /// What keeps it quiet, in one process, and from asking.
    pub env: &'static [(&'static str, &'static str)],
    /// The session mode to set, where the default one costs model calls of its own.
    pub mode: Option<&'static str>,
    /// How a model is chosen.
    pub model: ModelBy,
    /// It tells errors and notes of its own as the agent's text: `Error: …`, `Info: …`.
    pub speaks_for_the_agent: bool,
    /// Messages of its own by which it ends a turn that went wrong, as if the agent had said them.
    pub notes: &'static [Note],
    /// Its `usage_update` tells what the last model call used, once for each of them.
    pub tells_each_call: bool,
}

/// A CLI that is configured with `protocol: acp` and has no profile: its arguments are configured too.
pub(in crate::cli) static PLAIN: Profile = NOTHING_SPECIAL;

const NOTHING_SPECIAL: Profile = Profile {
    name: "",
    program: "",
    args: &[],
    env: &[],
    mode: None,
    model: ModelBy::Protocol,
    speaks_for_the_agent: false,
    notes: &[],
    tells_each_call: false,
};

/// goose tells every trouble in a message of its own, and then ends the turn well.
const NOTES_OF_GOOSE: &[Note] = &[
    Note {
        mark: Mark::Begins("Ran into this error"),
        means: FailureCode::AgentFailed,
    },
    Note {
        mark: Mark::Begins("Unable to continue: Context limit"),
        means: FailureCode::ContextTooLong,
    },
    Note {
        mark: Mark::Begins("A tool call could not be parsed"),
        means: FailureCode::AgentFailed,
    },
    Note {
        mark: Mark::Begins("I've reached the maximum number of actions"),
        means: FailureCode::AgentFailed,
    },
    Note {
        mark: Mark::Begins("The provider refused this request"),
        means: FailureCode::Refused,
    },
    Note {
        mark: Mark::Begins("Network error: "),
        means: FailureCode::ProviderUnavailable,
    },
    Note {
        mark: Mark::Ends("resend your message to try again."),
        means: FailureCode::ProviderUnavailable,
    },
    Note {
        mark: Mark::Ends("resend your message to continue."),
        means: FailureCode::ProviderUnavailable,
    },
];

static PROFILES: [Profile; 10] = [
    Profile {
        name: "gemini",
        program: "gemini",
        args: &["--acp", "--skip-trust"],
        // Its relauncher is a second process that ignores signals.
        env: &[("GEMINI_CLI_NO_RELAUNCH", "true")],
        model: ModelBy::Flag("--model"),
        ..NOTHING_SPECIAL
    },
    Profile {
        name: "opencode",
        program: "opencode",
        args: &["acp"],
        env: &[("OPENCODE_DISABLE_AUTOUPDATE", "1")],
        ..NOTHING_SPECIAL
    },
    Profile {
        name: "goose",
        program: "goose",
        args: &["acp", "--with-builtin", "developer"],
        env: &[("GOOSE_MODE", "auto")],
        model: ModelBy::Env("GOOSE_MODEL"),
        notes: NOTES_OF_GOOSE,
        tells_each_call: true,
        ..NOTHING_SPECIAL
    },
    Profile {
        name: "copilot",
        program: "copilot",
        args: &["--acp", "--no-auto-update"],
        env: &[("COPILOT_AUTO_UPDATE", "false")],
        model: ModelBy::Flag("--model"),
        speaks_for_the_agent: true,
        ..NOTHING_SPECIAL
    },
    Profile {
        // Not proven: it could not be installed where the others were recorded.
        name: "cursor",
        program: "cursor-agent",
        args: &["acp"],
        ..NOTHING_SPECIAL
    },
    Profile {
        name: "qwen",
        program: "qwen",
        args: &["--acp"],
        env: &[("QWEN_CODE_NO_RELAUNCH", "true")],
        // Its default mode asks a model whether to ask a person.
        mode: Some("yolo"),
        model: ModelBy::Flag("--model"),
        ..NOTHING_SPECIAL
    },
    Profile {
        name: "cline",
        program: "cline",
        args: &["--acp"],
        ..NOTHING_SPECIAL
    },
    Profile {
        name: "droid",
        program: "droid",
        args: &["exec", "--output-format", "acp"],
        env: &[("FACTORY_DROID_AUTO_UPDATE_ENABLED", "false")],
        speaks_for_the_agent: true,
        ..NOTHING_SPECIAL
    },
    Profile {
        name: "kimi",
        program: "kimi",
        args: &["acp"],
        ..NOTHING_SPECIAL
    },
    Profile {
        name: "vibe",
        program: "vibe-acp",
        ..NOTHING_SPECIAL
    },
];

/// The CLI that the runner `name` is, if it speaks ACP.
pub(in crate::cli) fn profile(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name)
}
