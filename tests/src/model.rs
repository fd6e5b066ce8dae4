//! The scripted model server, as a process: the one part of the tests that is not real.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{Binaries, Marker, processes::MARK};

/// A running scripted model.
#[derive(Debug)]
pub struct Model {
    child: Child,
    address: String,
    record: PathBuf,
}

impl Model {
    /// Starts a model that follows `script`: the text of a script file, or a built-in's name.
    /// `@DIR@` in the text is the cluster's directory.
    pub(crate) fn start(dir: &Path, script: &str, marker: &Marker) -> anyhow::Result<Self> {
        let record = dir.join("model.jsonl");
        let mut child = Command::new(Binaries::get().ctl())
            .args(["scripted-model", "--listen", "127.0.0.1:0", "--script"])
            .arg(script_argument(dir, script)?)
            .arg("--record")
            .arg(&record)
            .env(MARK, marker.name())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(dir.join("model.log")).context("failed to create model.log")?)
            .spawn()
            .context("failed to start the scripted model")?;
        let address = listening(&mut child, dir)?;
        Ok(Self {
            child,
            address,
            record,
        })
    }

    /// `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The prompts of the requests that it got, in order; one conversation has many requests.
    pub fn prompts(&self) -> anyhow::Result<Vec<String>> {
        let prompt = |request: &Value| request["prompt"].as_str().unwrap_or_default().to_owned();
        Ok(self.requests()?.iter().map(prompt).collect())
    }

    /// Every request that it got, in order.
    pub fn requests(&self) -> anyhow::Result<Vec<Value>> {
        let text = fs::read_to_string(&self.record).context("failed to read the model's record")?;
        text.lines()
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is reaped.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn script_argument(dir: &Path, script: &str) -> anyhow::Result<PathBuf> {
    if !script.contains('\n') {
        return Ok(script.into());
    }
    let path = dir.join("script.yaml");
    let script = script.replace("@DIR@", &dir.to_string_lossy());
    fs::write(&path, script).context("failed to write the script")?;
    Ok(path)
}

fn listening(child: &mut Child, dir: &Path) -> anyhow::Result<String> {
    let mut line = String::new();
    let stdout = child.stdout.take().expect("stdout is piped");
    BufReader::new(stdout)
        .read_line(&mut line)
        .context("failed to read from the model")?;
    let log = fs::read_to_string(dir.join("model.log")).unwrap_or_default();
    ensure!(!line.is_empty(), "the scripted model did not start: {log}");
    let said: Value = serde_json::from_str(&line).with_context(|| format!("no JSON: {line}"))?;
    let address = said["listening"]
        .as_str()
        .context("the model does not say where it listens")?;
    Ok(address.to_owned())
}
