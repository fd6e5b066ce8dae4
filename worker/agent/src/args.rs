//! The command line.

use std::time::Duration;

/// Run Orchestra's own agent on the prompt from standard input
///
/// It works in the current directory and writes JSON lines (docs/agent-format.md). The key of the
/// model service is read from the environment only.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The wire format of the model service.
    #[arg(long, value_enum, default_value = "anthropic")]
    pub provider: Provider,
    /// The service's address, as `http://127.0.0.1:11434/v1` [default: ANTHROPIC_BASE_URL or
    /// OPENAI_BASE_URL, else the provider's own].
    #[arg(long, value_name = "URL")]
    pub base_url: Option<String>,
    /// The model [default: ANTHROPIC_MODEL or OPENAI_MODEL, else claude-sonnet-4-5 with anthropic].
    #[arg(long)]
    pub model: Option<String>,
    /// The environment variable that holds the key [default: ANTHROPIC_API_KEY or OPENAI_API_KEY].
    #[arg(long, value_name = "NAME")]
    pub api_key_env: Option<String>,
    /// Most model calls of one agent; a child agent has as many of its own.
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub max_turns: u64,
    /// Most tokens of one answer [default: 8192 with anthropic, the service's own otherwise].
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<u64>,
    /// How often a failed model call is tried again.
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub max_retries: u32,
    /// How long the first retry waits; each later one waits twice as long.
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    pub retry_delay_ms: u64,
    /// How long the model service may stay silent.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub model_timeout: u64,
    /// How long one command may run when the model names no limit.
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    pub command_timeout: u64,
}

/// The wire format of a model service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Provider {
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI Chat Completions, which most local model servers speak.
    Openai,
}

/// What an agent needs to know, with every default filled in.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The wire format.
    pub provider: Provider,
    /// The service's address.
    pub base_url: String,
    /// The model.
    pub model: String,
    /// The key; local servers need none.
    pub api_key: Option<String>,
    /// Where the key was looked for.
    pub api_key_env: String,
    /// Most model calls of one agent.
    pub max_turns: u64,
    /// Most tokens of one answer.
    pub max_tokens: Option<u64>,
    /// How often a failed model call is tried again.
    pub max_retries: u32,
    /// How long the first retry waits.
    pub retry_delay: Duration,
    /// How long the model service may stay silent.
    pub model_timeout: Duration,
    /// How long a command may run when the model names no limit.
    pub command_timeout: Duration,
}

impl Args {
    /// The settings; `env` looks up an environment variable.
    pub fn settings(&self, env: impl Fn(&str) -> Option<String>) -> Result<Settings, String> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let names = self.provider.names();
        let model = self
            .model
            .clone()
            .or_else(|| env(names.model_env))
            .or_else(|| names.model.map(str::to_owned));
        let model = model.ok_or_else(|| {
            format!(
                "no model is named: give --model NAME or set {}",
                names.model_env
            )
        })?;
        let api_key_env = self
            .api_key_env
            .clone()
            .unwrap_or_else(|| names.key_env.to_owned());
        Ok(Settings {
            provider: self.provider,
            base_url: self
                .base_url
                .clone()
                .or_else(|| env(names.url_env))
                .unwrap_or_else(|| names.url.to_owned()),
            model,
            api_key: env(&api_key_env),
            api_key_env,
            max_turns: self.max_turns,
            max_tokens: self.max_tokens,
            max_retries: self.max_retries,
            retry_delay: Duration::from_millis(self.retry_delay_ms),
            model_timeout: Duration::from_secs(self.model_timeout),
            command_timeout: Duration::from_secs(self.command_timeout),
        })
    }
}

struct Names {
    url: &'static str,
    url_env: &'static str,
    key_env: &'static str,
    model: Option<&'static str>,
    model_env: &'static str,
}

impl Provider {
    fn names(self) -> Names {
        match self {
            Self::Anthropic => Names {
                url: "https://api.anthropic.com",
                url_env: "ANTHROPIC_BASE_URL",
                key_env: "ANTHROPIC_API_KEY",
                model: Some("claude-sonnet-4-5"),
                model_env: "ANTHROPIC_MODEL",
            },
            Self::Openai => Names {
                url: "https://api.openai.com/v1",
                url_env: "OPENAI_BASE_URL",
                key_env: "OPENAI_API_KEY",
                model: None,
                model_env: "OPENAI_MODEL",
            },
        }
    }
}
