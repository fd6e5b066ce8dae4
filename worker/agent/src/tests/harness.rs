//! One run in a directory of its own against a scripted model.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use orchestra_scripted_model::{Record, Script, Server, script};
use serde_json::Value;

use crate::{
    args::{Provider, Settings},
    session::{self, Ended},
};

/// A scripted model and a directory to work in.
pub struct Bench {
    pub server: Server,
    pub settings: Settings,
    pub out: Lines,
    root: tempfile::TempDir,
}

/// What a run wrote, shared with the run.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Bench {
    /// A bench with this script, for a provider.
    pub async fn new(provider: Provider, script_text: &str) -> Self {
        Self::with(provider, script::parse(script_text).expect("a good script")).await
    }

    /// A bench with this script, for a provider.
    pub async fn with(provider: Provider, script: Script) -> Self {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::start(addr, script)
            .await
            .expect("loopback has a free port");
        let settings = Settings {
            provider,
            base_url: match provider {
                Provider::Anthropic => server.url(),
                Provider::Openai => format!("{}/v1", server.url()),
            },
            model: "scripted".to_owned(),
            api_key: None,
            api_key_env: "THE_KEY".to_owned(),
            max_turns: 20,
            max_tokens: None,
            max_retries: 3,
            retry_delay: Duration::from_millis(1),
            model_timeout: Duration::from_secs(20),
            command_timeout: Duration::from_secs(20),
        };
        let root = tempfile::tempdir().expect("a directory");
        Self {
            server,
            settings,
            out: Lines::default(),
            root,
        }
    }

    /// Where the agent works.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Runs to the end.
    pub async fn run(&self, prompt: &str) -> Ended {
        self.run_until(prompt, std::future::pending()).await
    }

    /// Runs to the end or the stop.
    pub async fn run_until(&self, prompt: &str, stop: impl Future<Output = ()>) -> Ended {
        let root: PathBuf = self.root().to_owned();
        let out = Box::new(self.out.clone());
        session::run(
            Ok(self.settings.clone()),
            &root,
            prompt.to_owned(),
            out,
            stop,
        )
        .await
    }

    /// The events so far.
    pub fn events(&self) -> Vec<Value> {
        let bytes = self.out.0.lock().expect("no panic").clone();
        let text = String::from_utf8(bytes).expect("JSON is UTF-8");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("each line is JSON"))
            .collect()
    }

    /// The events of a type.
    pub fn events_of(&self, kind: &str) -> Vec<Value> {
        self.events()
            .into_iter()
            .filter(|event| event["type"] == kind)
            .collect()
    }

    /// The requests that the model got.
    pub fn requests(&self) -> Vec<Record> {
        self.server.requests()
    }
}

/// Waits until `holds`, or fails with `what` after ten seconds.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .unwrap_or_else(|_| panic!("not within ten seconds: {what}"));
}
