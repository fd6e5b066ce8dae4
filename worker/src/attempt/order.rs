//! What was asked for, checked.

use orchestra_proto::{Refused, convert, v1};
use orchestra_repo::Earlier;
use orchestra_types::{Digest, RunnerName, TaskId, TaskSpec, limits};

use crate::prompt::Document;

/// An order to start an attempt.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub spec: TaskSpec,
    pub runner: RunnerName,
    pub documents: Vec<Document>,
    pub traceparent: String,
    pub resume: Option<Resume>,
    pub predecessors: Vec<Predecessor>,
    /// Changes that those build on.
    pub below: Vec<Earlier>,
}

/// The files of an earlier attempt, to go on from.
#[derive(Clone, Debug)]
pub(super) struct Resume {
    pub commit: String,
    pub bundle: Digest,
}

/// The result of a task that this one comes after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Predecessor {
    pub task: TaskId,
    /// Whether this one builds on it; else the agent may look at it.
    pub succeeded: bool,
    pub change: Earlier,
    /// To be fetched in this order; the last one holds the change.
    pub bundles: Vec<Digest>,
}

impl TryFrom<v1::Start> for Order {
    type Error = Refused;

    fn try_from(wire: v1::Start) -> Result<Self, Refused> {
        let spec = wire
            .spec
            .ok_or_else(|| Refused::new("spec", "is missing"))?;
        let document = |doc: v1::ContextDoc| Document {
            name: doc.name,
            text: doc.text,
        };
        if wire.predecessors.len().max(wire.below.len()) > limits::AFTER_MAX {
            let why = format!("more than {}", limits::AFTER_MAX);
            return Err(Refused::new("predecessors", why));
        }
        let predecessors = wire.predecessors.into_iter().map(Predecessor::try_from);
        Ok(Self {
            spec: spec.try_into()?,
            runner: convert::name("runner", &wire.runner)?,
            documents: wire.context.into_iter().map(document).collect(),
            traceparent: wire.traceparent,
            resume: wire.resume.map(Resume::try_from).transpose()?,
            predecessors: predecessors.collect::<Result<_, _>>()?,
            below: wire.below.into_iter().map(earlier).collect(),
        })
    }
}

impl TryFrom<v1::Resume> for Resume {
    type Error = Refused;

    fn try_from(wire: v1::Resume) -> Result<Self, Refused> {
        Ok(Self {
            commit: wire.commit,
            bundle: convert::digest("resume", &wire.bundle)?,
        })
    }
}

impl TryFrom<v1::Predecessor> for Predecessor {
    type Error = Refused;

    fn try_from(wire: v1::Predecessor) -> Result<Self, Refused> {
        let bundles = wire.bundles.iter();
        let bundles = bundles.map(|bundle| convert::digest("predecessors", bundle));
        Ok(Self {
            task: convert::task_id("predecessors", wire.task_id)?,
            succeeded: wire.succeeded,
            change: wire
                .change
                .map(earlier)
                .ok_or_else(|| Refused::new("predecessors", "without a change"))?,
            bundles: bundles.collect::<Result<_, _>>()?,
        })
    }
}

/// Whether its commits are any, the repository says.
fn earlier(wire: v1::Earlier) -> Earlier {
    Earlier {
        start: wire.start,
        base: wire.base,
        commit: wire.commit,
        applied: wire.applied,
    }
}
