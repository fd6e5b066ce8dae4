//! Points every CLI at the scripted model: the environment, configuration files and runners that
//! a person would set for a model service of their own.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context;
use serde_json::{Value, json};

/// The variables that the CLIs read. All keys are dummies. Few retries, so that a model that
/// misbehaves on purpose ends an attempt within seconds.
pub(crate) fn environment(base: &str) -> BTreeMap<String, String> {
    [
        ("ANTHROPIC_BASE_URL", base),
        ("ANTHROPIC_API_KEY", "sk-ant-dummy"),
        ("CLAUDE_CODE_MAX_RETRIES", "1"),
        ("SCRIPTED_MODEL_KEY", "dummy"),
        ("GEMINI_API_KEY", "dummy"),
        ("GOOGLE_GEMINI_BASE_URL", base),
        ("GOOSE_PROVIDER", "openai"),
        ("GOOSE_MODEL", "scripted-model"),
        ("GOOSE_DISABLE_KEYRING", "1"),
        ("GOOSE_TELEMETRY_ENABLED", "false"),
        ("OPENAI_HOST", base),
        ("OPENAI_API_KEY", "dummy"),
        ("OPENCODE_DISABLE_MODELS_FETCH", "1"),
        ("OPENCODE_DISABLE_LSP_DOWNLOAD", "1"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

/// The configuration files that the CLIs read in a home directory.
pub(crate) fn write_files(home: &Path, base: &str) -> anyhow::Result<()> {
    write(&home.join(".codex/config.toml"), &codex(base))?;
    write(&home.join(".gemini/settings.json"), &gemini().to_string())?;
    write(
        &home.join(".config/opencode/opencode.json"),
        &opencode(base).to_string(),
    )
}

/// The `agent` runner of `orchestra.yaml`, which has no configuration of its own elsewhere.
pub(crate) fn agent_runner(base: &str) -> String {
    format!("{{model: scripted-model, agent: {{provider: anthropic, base_url: \"{base}\"}}}}")
}

fn codex(base: &str) -> String {
    format!(
        r#"model = "gpt-5-codex"
model_provider = "scripted"
[model_providers.scripted]
name = "scripted"
base_url = "{base}/v1"
wire_api = "responses"
env_key = "SCRIPTED_MODEL_KEY"
request_max_retries = 1
stream_max_retries = 1
"#
    )
}

fn gemini() -> Value {
    json!({
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": false},
        "general": {"enableAutoUpdate": false, "maxAttempts": 2},
        "model": {"name": "gemini-2.5-flash"},
    })
}

fn opencode(base: &str) -> Value {
    json!({
        "autoupdate": false,
        "share": "disabled",
        "model": "scripted/scripted-model",
        "small_model": "scripted/scripted-model",
        "provider": {"scripted": {
            "npm": "@ai-sdk/openai-compatible",
            "name": "Scripted",
            "options": {"baseURL": format!("{base}/v1"), "apiKey": "dummy"},
            "models": {"scripted-model": {
                "name": "Scripted",
                "tool_call": true,
                "limit": {"context": 128_000, "output": 8192},
                "cost": {"input": 1, "output": 2},
            }},
        }},
    })
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let dir = path.parent().expect("the file lies in a directory");
    fs::create_dir_all(dir).with_context(|| format!("failed to create `{}`", dir.display()))?;
    fs::write(path, text).with_context(|| format!("failed to write `{}`", path.display()))
}
