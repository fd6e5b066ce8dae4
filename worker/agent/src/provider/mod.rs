//! Model services: one call with retries, whatever the wire format.

mod anthropic;
mod http;
mod openai;
mod problem;
mod retry;
mod sse;

use serde_json::{Value, json};

use crate::{
    args::{Provider, Settings},
    chat::{Question, Reply, ToolCall},
    events::{Events, TextForm, TextKind},
    failure::Failure,
};
use http::Http;
use problem::Problem;
use retry::Retries;

/// A model service.
pub struct Client {
    provider: Provider,
    model: String,
    max_tokens: Option<u64>,
    retries: Retries,
    http: Http,
}

impl Client {
    /// A client for the service of the settings.
    pub fn new(settings: &Settings) -> Result<Self, Failure> {
        Ok(Self {
            provider: settings.provider,
            model: settings.model.clone(),
            max_tokens: settings.max_tokens,
            retries: Retries {
                most: settings.max_retries,
                delay: settings.retry_delay,
            },
            http: Http::new(settings)?,
        })
    }

    /// The model's answer; while it comes, its pieces are told as events.
    pub async fn ask(&self, question: &Question<'_>, events: &Events) -> Result<Reply, Failure> {
        let mut tried = 0;
        loop {
            match self.ask_once(question, events).await {
                Ok(reply) => return Ok(reply),
                Err(problem) => {
                    let pause = self.retries.pause(tried, &problem)?;
                    tried += 1;
                    let fields = json!({
                        "retry": tried, "of": self.retries.most,
                        "pause_ms": u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                        "code": problem.failure.code.word(),
                    });
                    events.status(problem.phase(), &problem.failure.message, &fields);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    async fn ask_once(&self, question: &Question<'_>, events: &Events) -> Result<Reply, Problem> {
        let mut telling = Telling::new(events);
        let reply = match self.provider {
            Provider::Anthropic => {
                let body = anthropic::body(&self.model, self.max_tokens, question);
                let mut stream = self.http.post("messages", &body).await?;
                anthropic::read(&mut stream, &mut telling).await?
            }
            Provider::Openai => {
                let body = openai::body(&self.model, self.max_tokens, question);
                let mut stream = self.http.post("chat/completions", &body).await?;
                openai::read(&mut stream, &mut telling).await?
            }
        };
        telling.finish();
        Ok(reply)
    }
}

/// Tells the texts of one answer while they come, and each as a whole at its end.
struct Telling<'a> {
    events: &'a Events,
    open: Option<(TextKind, String, String)>,
}

impl<'a> Telling<'a> {
    fn new(events: &'a Events) -> Self {
        Self { events, open: None }
    }

    fn piece(&mut self, kind: TextKind, text: &str) {
        if text.is_empty() {
            return;
        }
        if self.open.as_ref().is_some_and(|(open, ..)| *open != kind) {
            self.finish();
        }
        let (_, id, whole) = self
            .open
            .get_or_insert_with(|| (kind, self.events.text_id(), String::new()));
        whole.push_str(text);
        self.events.text(kind, id, text, TextForm::Piece);
    }

    /// The text that was being told is complete.
    fn finish(&mut self) {
        if let Some((kind, id, whole)) = self.open.take() {
            self.events.text(kind, &id, &whole, TextForm::Whole);
        }
    }
}

/// A tool call of which the arguments come in pieces.
#[derive(Debug, Default)]
struct OpenCall {
    id: String,
    tool: String,
    args: String,
}

impl OpenCall {
    fn close(self) -> ToolCall {
        let text = if self.args.trim().is_empty() {
            "{}"
        } else {
            &self.args
        };
        let args = match serde_json::from_str::<Value>(text) {
            Ok(args @ Value::Object(_)) => Ok(args),
            Ok(_) | Err(_) => Err(self.args),
        };
        ToolCall {
            id: self.id,
            tool: self.tool,
            args,
        }
    }
}
