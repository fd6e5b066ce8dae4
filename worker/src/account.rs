//! Which account a runner's CLI uses, told by a fingerprint of its credential.
//!
//! The fingerprint is a part of a SHA-256: two workers with the same credential name the same
//! account, and nobody can get the credential back from it. What changes when a token is
//! refreshed is no part of it. Where the credential cannot be found, the account is the worker's
//! own.

use std::{
    ffi::OsString,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use orchestra_config::RunnerConfig;
use orchestra_types::{
    AccountName, RunnerName,
    runner::{KNOWN_RUNNERS, Login},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Largest file that is looked into.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Hex digits of a fingerprint: one in 2^48 that two accounts are taken for one.
const FINGERPRINT_DIGITS: usize = 12;

/// Where a CLI has its credential.
struct Source {
    /// The provider.
    provider: &'static str,
    /// Environment variables that hold a key; the first one that is set counts.
    keys: &'static [&'static str],
    /// Variables that name another service; a key there is another account.
    services: &'static [&'static str],
    /// Files below the home directory, each with the places in it that name the account and stay
    /// when a token is refreshed.
    files: &'static [(&'static str, &'static [&'static str])],
}

const ANTHROPIC_KEYS: &[&str] = &[
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
];
const OPENAI_KEYS: &[&str] = &["CODEX_API_KEY", "OPENAI_API_KEY"];
const GITHUB_KEYS: &[&str] = &["COPILOT_GITHUB_TOKEN", "GH_TOKEN", "GITHUB_TOKEN"];

/// The CLIs that are known to have one provider.
fn source(runner: &str) -> Option<Source> {
    let none: &[(&str, &[&str])] = &[];
    Some(match runner {
        "claude" => Source {
            provider: "anthropic",
            keys: ANTHROPIC_KEYS,
            services: &["ANTHROPIC_BASE_URL"],
            files: &[(
                ".claude.json",
                &["/oauthAccount/accountUuid", "/primaryApiKey"],
            )],
        },
        "codex" => Source {
            provider: "openai",
            keys: OPENAI_KEYS,
            services: &["OPENAI_BASE_URL"],
            files: &[(
                ".codex/auth.json",
                &["/tokens/account_id", "/OPENAI_API_KEY"],
            )],
        },
        "gemini" => Source {
            provider: "google",
            keys: &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
            services: &["GOOGLE_GEMINI_BASE_URL"],
            files: &[(".gemini/google_accounts.json", &["/active"])],
        },
        "copilot" => Source {
            provider: "github",
            keys: GITHUB_KEYS,
            services: &[],
            files: none,
        },
        "cursor" => Source {
            provider: "cursor",
            keys: &["CURSOR_API_KEY"],
            services: &[],
            files: none,
        },
        "droid" => Source {
            provider: "factory",
            keys: &["FACTORY_API_KEY"],
            services: &[],
            files: none,
        },
        _ => return None,
    })
}

/// What is known of the surroundings of the CLIs.
pub struct Surroundings<'a> {
    /// The worker's environment.
    pub environment: &'a [(OsString, OsString)],
    /// The worker's name, for accounts that nobody else can know.
    pub worker: &'a str,
}

impl Surroundings<'_> {
    /// The account of a runner.
    #[must_use]
    pub fn account(&self, runner: &RunnerName, config: Option<&RunnerConfig>) -> AccountName {
        if let Some(named) = config.and_then(|c| c.account.clone()) {
            return named;
        }
        let found = if runner.as_str() == "agent" {
            self.of_agent(config)
        } else {
            source(runner.as_str()).and_then(|source| self.of_source(&source, config))
        };
        found.unwrap_or_else(|| self.own(runner))
    }

    /// Whether the runner's CLI has a credential.
    #[must_use]
    pub fn login(&self, runner: &RunnerName, config: Option<&RunnerConfig>) -> Login {
        let known = source(runner.as_str());
        let found = match (runner.as_str(), &known) {
            ("agent", _) => self.of_agent(config),
            (_, Some(source)) => self.of_source(source, config),
            (_, None) => return Login::Unknown,
        };
        match (found, known) {
            (Some(_), _) => Login::Yes,
            // A CLI may keep its login where nobody can look, as in a keyring.
            (None, Some(source)) if source.files.is_empty() => Login::Unknown,
            (None, _) => Login::No,
        }
    }

    /// Files that say, when they change, that somebody may have logged in or out.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let Some(home) = self.variable("HOME", None).map(PathBuf::from) else {
            return Vec::new();
        };
        let sources = KNOWN_RUNNERS.iter().filter_map(|runner| source(runner));
        let files = sources.flat_map(|source| source.files);
        files.map(|(file, _)| home.join(file)).collect()
    }

    fn of_source(&self, source: &Source, config: Option<&RunnerConfig>) -> Option<AccountName> {
        let variable = |name: &&str| self.variable(name, config);
        let service = source.services.iter().find_map(variable);
        let key = source.keys.iter().find_map(variable);
        let credential = key.or_else(|| self.in_files(source, config))?;
        Some(named(source.provider, service.as_deref(), &credential))
    }

    /// The key that the `agent` runner is configured with.
    fn of_agent(&self, config: Option<&RunnerConfig>) -> Option<AccountName> {
        let agent = config.and_then(|c| c.agent.as_ref());
        let (provider, keys) = match agent {
            Some(agent) if agent.provider == "openai" => ("openai", OPENAI_KEYS),
            Some(_) => ("anthropic", ANTHROPIC_KEYS),
            None if self.variable("ANTHROPIC_API_KEY", config).is_some() => {
                ("anthropic", ANTHROPIC_KEYS)
            }
            None => ("openai", OPENAI_KEYS),
        };
        let service = agent.and_then(|a| a.base_url.as_deref());
        let own_key = agent.and_then(|a| a.api_key_env.as_deref());
        let usual = || keys.iter().find_map(|name| self.variable(name, config));
        let key = match own_key {
            Some(name) => self.variable(name, config),
            // A service at an address of its own, for which no variable is named, may need no key.
            None if service.is_some() => usual().or(Some(String::new())),
            None => usual(),
        };
        Some(named(provider, service, &key?))
    }

    fn in_files(&self, source: &Source, config: Option<&RunnerConfig>) -> Option<String> {
        let home = PathBuf::from(self.variable("HOME", config)?);
        source.files.iter().find_map(|(file, places)| {
            let document = read(&home.join(file))?;
            let text = |place: &&str| {
                let text = document.pointer(place)?.as_str()?;
                (!text.is_empty()).then(|| text.to_owned())
            };
            places.iter().find_map(text)
        })
    }

    /// The runner's own environment stands above the worker's.
    fn variable(&self, name: &str, config: Option<&RunnerConfig>) -> Option<String> {
        let own = config.and_then(|c| c.env.get(name)).cloned();
        let inherited = || {
            let mut all = self.environment.iter();
            let (_, value) = all.find(|(n, _)| n == name)?;
            value.to_str().map(str::to_owned)
        };
        own.or_else(inherited).filter(|value| !value.is_empty())
    }

    fn own(&self, runner: &RunnerName) -> AccountName {
        let plain = |c: char| match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') => c,
            _ => '-',
        };
        let worker: String = self.worker.chars().map(plain).take(60).collect();
        let runner: String = runner.as_str().chars().take(60).collect();
        format!("{runner}@{worker}")
            .parse()
            .expect("it is short and has only characters of an account's name")
    }
}

fn named(provider: &str, service: Option<&str>, credential: &str) -> AccountName {
    let mut hash = Sha256::new();
    for part in [
        "orchestra account 1",
        provider,
        service.unwrap_or_default(),
        credential,
    ] {
        // The length in front: no two lists of parts give the same bytes.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let hex: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    format!("{provider}-{}", &hex[..FINGERPRINT_DIGITS])
        .parse()
        .expect("providers have plain names")
}

fn read(path: &Path) -> Option<Value> {
    let mut text = Vec::new();
    let file = File::open(path).ok()?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use orchestra_config::AgentRunner;

    use super::*;

    fn account(runner: &str, environment: &[(&str, &str)]) -> String {
        configured(runner, environment, None)
    }

    fn configured(
        runner: &str,
        environment: &[(&str, &str)],
        config: Option<&RunnerConfig>,
    ) -> String {
        let environment: Vec<(OsString, OsString)> = environment
            .iter()
            .map(|(n, v)| ((*n).into(), (*v).into()))
            .collect();
        let surroundings = Surroundings {
            environment: &environment,
            worker: "dev box",
        };
        surroundings
            .account(&runner.parse().unwrap(), config)
            .to_string()
    }

    #[test]
    fn the_same_key_is_the_same_account_everywhere_and_is_not_told() {
        let key = [("ANTHROPIC_API_KEY", "sk-secret")];
        let claude = account("claude", &key);
        assert!(
            claude.starts_with("anthropic-") && !claude.contains("secret"),
            "{claude}"
        );
        assert_eq!(claude.len(), "anthropic-".len() + FINGERPRINT_DIGITS);
        assert_eq!(account("agent", &key), claude, "two CLIs on one key");
        assert_ne!(account("claude", &[("ANTHROPIC_API_KEY", "other")]), claude);
        let elsewhere = [key[0], ("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")];
        assert_ne!(account("claude", &elsewhere), claude, "another service");
    }

    #[test]
    fn a_login_is_known_by_what_stays_when_its_token_is_refreshed() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().to_str().unwrap();
        fs::create_dir(home.path().join(".codex")).unwrap();
        let auth = home.path().join(".codex/auth.json");
        let codex = |token: &str| {
            let text = format!(
                r#"{{"OPENAI_API_KEY":null,"tokens":{{"account_id":"me","access_token":"{token}"}}}}"#
            );
            fs::write(&auth, text).unwrap();
            account("codex", &[("HOME", path)])
        };
        let first = codex("one");
        assert!(first.starts_with("openai-"), "{first}");
        assert_eq!(codex("two"), first);
        fs::write(&auth, "not json").unwrap();
        assert_eq!(account("codex", &[("HOME", path)]), "codex@dev-box");
    }

    #[test]
    fn a_login_is_there_or_not_or_nobody_can_know() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().to_str().unwrap();
        let login = |runner: &str, environment: &[(&str, &str)]| {
            let own = [&[("HOME", path)], environment].concat();
            let environment: Vec<_> = own.iter().map(|(n, v)| (n.into(), v.into())).collect();
            let surroundings = Surroundings {
                environment: &environment,
                worker: "dev",
            };
            surroundings.login(&runner.parse().unwrap(), None)
        };
        assert_eq!(login("codex", &[]), Login::No);
        assert_eq!(login("codex", &[("OPENAI_API_KEY", "k")]), Login::Yes);
        assert_eq!(login("copilot", &[]), Login::Unknown, "it has a keyring");
        assert_eq!(login("shell", &[]), Login::Unknown);
        fs::create_dir(home.path().join(".codex")).unwrap();
        let auth = r#"{"tokens":{"account_id":"me"}}"#;
        fs::write(home.path().join(".codex/auth.json"), auth).unwrap();
        assert_eq!(login("codex", &[]), Login::Yes);
    }

    #[test]
    fn a_name_of_the_configuration_stands_above_everything() {
        let config = RunnerConfig {
            account: Some("team".parse().unwrap()),
            ..RunnerConfig::default()
        };
        let key = [("ANTHROPIC_API_KEY", "sk")];
        assert_eq!(configured("claude", &key, Some(&config)), "team");
    }

    #[test]
    fn the_runners_own_environment_counts_before_the_workers() {
        let config = RunnerConfig {
            env: [("ANTHROPIC_API_KEY".to_owned(), "own".to_owned())].into(),
            ..RunnerConfig::default()
        };
        let own = configured("claude", &[("ANTHROPIC_API_KEY", "sk")], Some(&config));
        assert_eq!(own, account("claude", &[("ANTHROPIC_API_KEY", "own")]));
    }

    #[test]
    fn the_agent_has_an_account_at_a_service_of_its_own_with_its_key_and_without() {
        let config = RunnerConfig {
            agent: Some(AgentRunner {
                provider: "anthropic".to_owned(),
                base_url: Some("http://127.0.0.1:1".to_owned()),
                api_key_env: None,
            }),
            ..RunnerConfig::default()
        };
        let of = |keys: &[(&str, &str)]| configured("agent", keys, Some(&config));
        let (one, two) = ([("ANTHROPIC_API_KEY", "a")], [("ANTHROPIC_API_KEY", "b")]);
        assert_ne!(of(&one), of(&two));
        assert_ne!(of(&one), of(&[]));
        assert!(of(&[]).starts_with("anthropic-"));
    }

    #[test]
    fn a_runner_whose_credential_nobody_knows_has_an_account_of_this_worker() {
        assert_eq!(
            account("goose", &[("OPENAI_API_KEY", "x")]),
            "goose@dev-box"
        );
        assert_eq!(account("claude", &[]), "claude@dev-box");
    }
}
