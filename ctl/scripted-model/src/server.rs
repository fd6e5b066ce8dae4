//! The HTTP server: takes requests, asks the engine, records, answers.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, State},
    http::{Response, StatusCode, Uri},
};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use crate::{
    api,
    conversation::{Api, Conversation},
    engine::{Decision, Engine},
    play,
    record::{Record, Recorder},
    route::{self, Target},
    script::{Script, TroubleKind},
};

/// How long a stop waits for answers that are under way.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// What a server may be told besides its script.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    /// Append every request to this file, one JSON object a line.
    pub record: Option<PathBuf>,
}

/// A running scripted model server. It stops when it is dropped.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<io::Result<()>>,
}

#[derive(Debug)]
struct Shared {
    engine: Mutex<Engine>,
    recorder: Mutex<Recorder>,
    stopped: watch::Receiver<bool>,
}

impl Server {
    /// Listens on `addr` (port 0 for any) and follows `script`.
    pub async fn start(addr: SocketAddr, script: Script) -> io::Result<Self> {
        Self::start_with(addr, script, ServerOptions::default()).await
    }

    /// The same, with options.
    pub async fn start_with(
        addr: SocketAddr,
        script: Script,
        options: ServerOptions,
    ) -> io::Result<Self> {
        let recorder = Recorder::open(options.record.as_deref())?;
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared {
            engine: Mutex::new(Engine::new(script)),
            recorder: Mutex::new(recorder),
            stopped: stopped.clone(),
        });
        let router = Router::new()
            .fallback(handle)
            .layer(DefaultBodyLimit::max(256 * 1024 * 1024))
            .with_state(Arc::clone(&shared));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(until_stopped(stopped))
                .await
        });
        Ok(Self {
            addr,
            shared,
            stop,
            tasks,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://HOST:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The latest requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Record> {
        lock(&self.shared.recorder).latest()
    }

    /// Takes no more requests, lets short answers end, and stops.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let ended = tokio::time::timeout(STOP_GRACE, self.tasks.join_next()).await;
        if ended.is_err() {
            self.tasks.shutdown().await;
        }
    }
}

async fn until_stopped(mut stopped: watch::Receiver<bool>) {
    // An error means that the server was dropped, which is a stop as well.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// A poisoned lock only means that another request's handler panicked; its data are still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

async fn handle(State(shared): State<Arc<Shared>>, uri: Uri, body: Bytes) -> Response<Body> {
    let route = route::route(uri.path());
    match route.target {
        Target::Generate { api, model, stream } => {
            let Ok(body) = serde_json::from_slice(&body) else {
                return play::error(api, 400, None, "the request's body is not JSON");
            };
            let talk = api::parse(api, &body, model.as_deref(), stream);
            let request = Request {
                path: uri.path(),
                scenario: route.scenario,
                talk,
                body,
            };
            generate(&shared, request).await
        }
        Target::Count(api, model) => {
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let tokens = api::parse(api, &body, model.as_deref(), false).tokens();
            play::document(
                StatusCode::OK,
                &json!({ "input_tokens": tokens, "totalTokens": tokens }),
            )
        }
        Target::Models => {
            let models = models(lock(&shared.engine).models());
            play::document(StatusCode::OK, &models)
        }
        Target::Unknown => {
            let message = format!("the scripted model knows no path `{}`", uri.path());
            play::document(StatusCode::NOT_FOUND, &api::error(Api::Chat, 404, &message))
        }
    }
}

struct Request<'a> {
    path: &'a str,
    scenario: Option<String>,
    talk: Conversation,
    body: Value,
}

async fn generate(shared: &Shared, request: Request<'_>) -> Response<Body> {
    let api = request.talk.api;
    let (decision, trouble) = match decide(shared, &request) {
        Ok(decided) => decided,
        Err(problem) => return play::error(api, 404, None, &problem),
    };
    let stream = request.talk.stream;
    let body = match record(shared, request, &decision, trouble.as_ref()) {
        Ok(body) => body,
        Err(error) => {
            return play::error(
                api,
                500,
                None,
                &format!("failed to record the request: {error}"),
            );
        }
    };
    match trouble {
        Some(TroubleKind::Status {
            code,
            retry_after,
            message,
        }) => {
            let message = message.unwrap_or_else(|| format!("scripted error {code}"));
            play::error(api, code, retry_after, &message)
        }
        Some(TroubleKind::Hang) => {
            until_stopped(shared.stopped.clone()).await;
            play::error(api, 503, None, "the scripted model stops")
        }
        kind @ (Some(TroubleKind::Cut | TroubleKind::Stall | TroubleKind::Slow { .. }) | None) => {
            play::answer(api, &decision, kind.as_ref(), &body, stream)
        }
    }
}

/// The rule's decision, and the trouble: the path's before the rule's.
fn decide(
    shared: &Shared,
    request: &Request<'_>,
) -> Result<(Decision, Option<TroubleKind>), String> {
    let mut engine = lock(&shared.engine);
    let asked = match &request.scenario {
        Some(name) => engine.scenario(name, &request.talk)?,
        None => None,
    };
    let decision = engine.decide(&request.talk);
    let trouble = asked.or_else(|| decision.trouble.clone());
    Ok((decision, trouble))
}

fn record(
    shared: &Shared,
    request: Request<'_>,
    decision: &Decision,
    trouble: Option<&TroubleKind>,
) -> io::Result<Value> {
    let talk = request.talk;
    let record = Record {
        number: 0,
        path: request.path.to_owned(),
        api: talk.api,
        prompt: talk.prompt(),
        results: talk.results(),
        tools: talk.tools.iter().map(|tool| tool.name.clone()).collect(),
        cwd: talk.cwd().map(str::to_owned),
        stream: talk.stream,
        model: talk.model,
        system: talk.system,
        rule: decision.rule.clone(),
        calls: decision
            .answer
            .calls
            .iter()
            .map(|call| call.tool.clone())
            .collect(),
        said: decision.answer.say.clone(),
        trouble: trouble
            .map(|trouble| format!("{trouble:?}"))
            .unwrap_or_default(),
        body: request.body.clone(),
    };
    lock(&shared.recorder).keep(record)?;
    Ok(request.body)
}

/// The list in the shape of OpenAI and Anthropic (`data`) and of Gemini (`models`) at once.
fn models(names: &[String]) -> Value {
    let data: Vec<Value> = names
        .iter()
        .map(|name| {
            json!({
                "id": name, "type": "model", "object": "model", "display_name": name,
                "created": 0, "created_at": "2026-01-01T00:00:00Z", "owned_by": "script",
            })
        })
        .collect();
    let gemini: Vec<Value> = names
        .iter()
        .map(|name| json!({ "name": format!("models/{name}") }))
        .collect();
    json!({ "object": "list", "data": data, "models": gemini, "has_more": false })
}
