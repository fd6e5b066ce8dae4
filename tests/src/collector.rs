//! A real OpenTelemetry collector, which prints the spans that it gets.

use std::{
    fs::{self, File},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::Context;
use tempfile::TempDir;

use crate::{Deadline, Span, machine::tool, until};

/// A running collector.
#[derive(Debug)]
pub struct Collector {
    child: Child,
    address: String,
    dir: TempDir,
}

impl Collector {
    /// The program, which `tests/setup.sh` installs.
    pub const PROGRAM: &str = "rotel-agent";

    /// Starts one.
    pub fn start() -> anyhow::Result<Self> {
        let dir = TempDir::with_prefix("collector-").context("failed to make a directory")?;
        // It says nowhere which ports it took, so it gets two that were free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let http = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let child = Command::new(tool(Self::PROGRAM).context("rotel-agent is not installed")?)
            .args(["start", "--disable-batching", "--exporter", "blackhole"])
            .args(["--debug-log", "traces", "--debug-log-verbosity", "detailed"])
            .args([
                "--otlp-grpc-endpoint",
                &address,
                "--otlp-http-endpoint",
                &http,
            ])
            .stdin(Stdio::null())
            .stdout(File::create(said(dir.path())).context("failed to create a log")?)
            .stderr(Stdio::null())
            .spawn()
            .context("failed to start rotel-agent")?;
        let collector = Self {
            child,
            address,
            dir,
        };
        until("the collector listens", Deadline::SOON, || {
            Ok(TcpStream::connect(&collector.address).ok().map(drop))
        })?;
        Ok(collector)
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` is set to.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The spans so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        parse(&fs::read_to_string(said(self.dir.path())).unwrap_or_default())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is reaped.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn said(dir: &Path) -> std::path::PathBuf {
    dir.join("said")
}

/// Reads what it prints: the attributes of a resource, then its spans, one fact on a line.
fn parse(text: &str) -> Vec<Span> {
    let (mut service, mut spans) = (String::new(), Vec::<Span>::new());
    for line in text.lines().map(str::trim) {
        if let Some((name, value)) = line.strip_prefix("-> ").and_then(|l| l.split_once(": ")) {
            let value = value
                .trim_start_matches("Str(")
                .trim_end_matches(')')
                .to_owned();
            match (name, spans.last_mut()) {
                ("service.name", _) => service = value,
                (_, Some(span)) => drop(span.attributes.insert(name.to_owned(), value)),
                (_, None) => {}
            }
        } else if line.starts_with("Span #") {
            spans.push(Span {
                service: service.clone(),
                ..Span::default()
            });
        } else if let (Some((name, value)), Some(span)) = (line.split_once(": "), spans.last_mut())
        {
            match name.trim() {
                "Trace ID" => span.trace = value.to_owned(),
                "Parent ID" => span.parent = value.to_owned(),
                "ID" => span.id = value.to_owned(),
                "Name" => span.name = value.to_owned(),
                _ => {}
            }
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn spans_are_read_with_their_service_and_attributes() {
        let text = "Resource attributes:\n     -> service.name: Str(orchestra-head)\nSpan #0\n    Trace ID       : 61d1\n    \
            Parent ID      : 27a2\n    ID             : e4f3\n    Name           : task.assign\nAttributes:\n     \
            -> attempt: Str(task_001.1)\n";
        let spans = parse(text);
        assert_eq!(spans.len(), 1);
        let span = &spans[0];
        assert_eq!(
            (span.service.as_str(), span.name.as_str()),
            ("orchestra-head", "task.assign")
        );
        assert_eq!(
            (span.trace.as_str(), span.parent.as_str()),
            ("61d1", "27a2")
        );
        assert_eq!(span.attributes["attempt"], "task_001.1");
    }
}
