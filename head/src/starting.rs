//! Makes an order to start complete: what the agent is given besides the description.

use std::sync::Arc;

use orchestra_proto::v1;
use orchestra_types::{
    Artifact, ArtifactKind, AttemptId, Digest, Outcome, TaskId, TaskSpec, limits,
};
use tracing::Instrument;

use crate::{
    blobs::Blobs,
    context, earlier,
    engine::{Handle, Start, View},
    store,
    traces::{Part, Traces},
};

/// Longest text of one document; the rest is cut, and the text says so.
const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// Longest context in all: an order must fit a message.
const CONTEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Completes orders. Cheap to clone.
#[derive(Clone)]
pub struct Starter {
    engine: Handle,
    blobs: Blobs,
    context: Arc<context::Store>,
    traces: Option<Traces>,
}

/// What the tasks have left that one comes after.
#[derive(Default)]
struct Before {
    outputs: Vec<Output>,
    predecessors: Vec<v1::Predecessor>,
    below: Vec<v1::Earlier>,
}

/// The output of a task that this one comes after.
struct Output {
    task: TaskId,
    text: String,
    whole: Option<Digest>,
}

impl Starter {
    /// A starter that reads from these.
    #[must_use]
    pub fn new(
        engine: Handle,
        blobs: Blobs,
        context: Arc<context::Store>,
        traces: Option<Traces>,
    ) -> Self {
        Self {
            engine,
            blobs,
            context,
            traces,
        }
    }

    /// Completes an order. What cannot be read costs a warning, never the attempt.
    pub async fn start(&self, start: Start) -> v1::Start {
        let Start {
            attempt,
            runner,
            spec,
            before,
        } = start;
        let traceparent = match &self.traces {
            Some(traces) => Box::pin(self.traceparent(traces, attempt, &spec)).await,
            // The submitter's goes through.
            None => spec.traceparent.clone(),
        };
        let span = tracing::info_span!("task.assign", %attempt, %runner);
        orchestra_telemetry::set_parent(&span, &traceparent);
        let before_it = self.before(&spec).await;
        let completed = self.with_context(spec, before_it.outputs);
        let (mut spec, mut context) = completed.instrument(span).await;
        if spec.runner.as_ref().is_some_and(|first| *first != runner) {
            // The model was named for the first runner, and another one does not know it.
            spec.model = None;
        }
        let resume = before.as_deref().and_then(resume);
        context.extend(
            before
                .as_deref()
                .map(|before| report(before, resume.is_some())),
        );
        v1::Start {
            resume,
            attempt: Some(attempt.into()),
            traceparent,
            spec: Some(spec.into()),
            context,
            runner: runner.to_string(),
            predecessors: before_it.predecessors,
            below: before_it.below,
        }
    }

    /// The span of the attempt, which its worker's and its agent's are parts of.
    async fn traceparent(&self, traces: &Traces, attempt: AttemptId, spec: &TaskSpec) -> String {
        let task = attempt.task;
        let created_at = self
            .engine
            .read(move |view| Ok(view.core.task(task).map(|view| view.row.created_at)))
            .await;
        match created_at {
            Ok(Some(created_at)) => {
                let trace = traces.of(task, created_at, &spec.traceparent);
                orchestra_telemetry::write(&trace.context(Part::Attempt(attempt.number)))
            }
            // It is forgotten, or the head stops.
            Ok(None) | Err(_) => spec.traceparent.clone(),
        }
    }

    async fn with_context(
        &self,
        spec: TaskSpec,
        outputs: Vec<Output>,
    ) -> (TaskSpec, Vec<v1::ContextDoc>) {
        if spec.after.is_empty() && spec.context_files.is_empty() && spec.project.is_none() {
            return (spec, Vec::new());
        }
        let (blobs, context) = (self.blobs.clone(), Arc::clone(&self.context));
        let kept = spec.clone();
        let read = move || (documents(&blobs, &context, &spec, &outputs), spec);
        match tokio::task::spawn_blocking(read).await {
            Ok((documents, spec)) => (spec, documents),
            Err(error) => {
                tracing::error!(%error, "failed to gather the context");
                (kept, Vec::new())
            }
        }
    }

    /// What the tasks have left that it comes after.
    async fn before(&self, spec: &TaskSpec) -> Before {
        if spec.after.is_empty() {
            return Before::default();
        }
        let spec = spec.clone();
        let read = self.engine.read(move |view| {
            let outputs = spec.after.iter().map(|task| output(view, *task));
            let outputs = outputs.filter_map(Result::transpose);
            let (predecessors, below) = earlier::before(view, &spec)?;
            Ok(Before {
                outputs: outputs.collect::<Result<_, _>>()?,
                predecessors,
                below,
            })
        });
        read.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "what earlier tasks have left cannot be read");
            Before::default()
        })
    }
}

fn output(view: &View<'_>, task: TaskId) -> store::Result<Option<Output>> {
    let Some((_, outcome)) = earlier::result(view, task)? else {
        return Ok(None);
    };
    let mut artifacts = outcome.artifacts.iter();
    let whole = artifacts.find(|artifact| artifact.kind == ArtifactKind::Output);
    Ok(Some(Output {
        task,
        whole: whole.map(|artifact: &Artifact| artifact.digest),
        text: outcome.text,
    }))
}

/// The files of an attempt that was stopped; none when it changed nothing.
fn resume(before: &Outcome) -> Option<v1::Resume> {
    let bundle = before.result_bundle()?;
    Some(v1::Resume {
        commit: before.commit.clone(),
        bundle: bundle.digest.0.to_vec(),
    })
}

/// What the agent is told of the attempt before it.
fn report(before: &Outcome, files_are_there: bool) -> v1::ContextDoc {
    let files = if files_are_there {
        "The files that it changed are in your working directory already."
    } else {
        "It left no files."
    };
    let why = before.failure.as_ref().map_or("", |f| f.message.as_str());
    let said = limits::cut(&before.text, limits::OUTCOME_TEXT_BYTES_MAX);
    let said = if said.trim().is_empty() {
        "It had not said anything yet.".to_owned()
    } else {
        format!("The last thing that it said:\n\n{said}")
    };
    v1::ContextDoc {
        name: "earlier_attempt.md".to_owned(),
        text: format!(
            "An earlier attempt at your task was stopped before it was done: {why}. {files} Go on \
             from there; do not begin anew.\n\n{said}"
        ),
    }
}

fn documents(
    blobs: &Blobs,
    context: &context::Store,
    spec: &TaskSpec,
    outputs: &[Output],
) -> Vec<v1::ContextDoc> {
    let outputs: Vec<(TaskId, String)> = outputs.iter().map(|o| whole_text(blobs, o)).collect();
    let shared = context.documents_for(spec, &outputs);
    let shared = shared.unwrap_or_else(|error| {
        tracing::warn!(
            error = format!("{error:#}"),
            "the shared context cannot be read"
        );
        Vec::new()
    });
    let files = spec.context_files.iter().filter_map(|file| {
        let text = text(blobs, &file.content.digest)?;
        let name = file.name.clone();
        Some(v1::ContextDoc { name, text })
    });
    let mut left = CONTEXT_BYTES_MAX;
    let mut fits = |document: &v1::ContextDoc| {
        let rest = left.checked_sub(document.text.len());
        match rest {
            Some(rest) => left = rest,
            None => tracing::warn!(name = document.name, "left out: the context is too long"),
        }
        rest.is_some()
    };
    shared
        .into_iter()
        .chain(files)
        .filter(|d| fits(d))
        .collect()
}

/// The artifact has the whole text, the outcome only its beginning.
fn whole_text(blobs: &Blobs, output: &Output) -> (TaskId, String) {
    let whole = output.whole.and_then(|digest| text(blobs, &digest));
    (output.task, whole.unwrap_or_else(|| output.text.clone()))
}

fn text(blobs: &Blobs, digest: &Digest) -> Option<String> {
    let read = blobs.read_text(digest, DOCUMENT_BYTES_MAX);
    read.inspect_err(|error| tracing::warn!(%error, "a document cannot be read"))
        .ok()
}
