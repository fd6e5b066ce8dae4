//! Housekeeping on a worker's machine that a person asks for. The head passes the wish on in the
//! worker's session, and the answer back.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use orchestra_core::ConnectionId;
use orchestra_proto::{
    convert,
    v1::{self, head_message},
};
use orchestra_types::{WorkerId, limits};
use tokio::{sync::oneshot, time::timeout};

use super::{
    Services, cluster,
    outgoing::message,
    status::{self, Result},
    stream::Answers,
};

/// How long a worker may take to look through its caches and to remove much.
const ANSWERED_WITHIN: Duration = Duration::from_secs(600);
/// How many may wait for one worker's answer.
const WAITING_MAX: usize = 4;

/// The sessions of attached workers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sessions(Arc<Mutex<Table>>);

#[derive(Debug)]
struct Table {
    attached: BTreeMap<WorkerId, Session>,
    /// The number of the last wish. A worker may answer one of the last head's.
    asked: u64,
}

/// A session in which a worker was welcomed.
#[derive(Debug)]
pub(super) struct Session {
    connection: ConnectionId,
    way_down: Answers<v1::HeadMessage>,
    collects_garbage: bool,
    /// Who waits for an answer. They hear of the session's end by being dropped with it.
    waiting: BTreeMap<u64, oneshot::Sender<Answer>>,
}

/// What a worker has done, or why it could not.
type Answer = std::result::Result<v1::Garbage, String>;

/// Why a wish was not passed on.
#[derive(Debug)]
enum NotAsked {
    /// The worker has no session.
    Away,
    /// Its version does not know the wish.
    Old,
    /// Others wait already, or it reads nothing.
    Busy,
}

impl Session {
    /// One in which nobody waits for anything.
    pub(super) fn new(
        connection: ConnectionId,
        way_down: Answers<v1::HeadMessage>,
        collects_garbage: bool,
    ) -> Self {
        Self {
            connection,
            way_down,
            collects_garbage,
            waiting: BTreeMap::new(),
        }
    }
}

impl Sessions {
    /// None. Wishes are numbered from `start`, which no head before had.
    pub fn new(start: u64) -> Self {
        Self(Arc::new(Mutex::new(Table {
            attached: BTreeMap::new(),
            asked: start,
        })))
    }

    /// A worker has come. Who waited for its last session hears that it is over.
    pub(super) fn attached(&self, worker: &WorkerId, session: Session) {
        let mut table = self.table();
        let known = table.attached.get(worker);
        // One that was replaced may be the last to say so.
        if known.is_none_or(|known| known.connection < session.connection) {
            table.attached.insert(worker.clone(), session);
        }
    }

    /// A session is over.
    pub(super) fn detached(&self, worker: &WorkerId, connection: ConnectionId) {
        let mut table = self.table();
        let session = table.attached.get(worker);
        if session.is_some_and(|session| session.connection == connection) {
            table.attached.remove(worker);
        }
    }

    /// A worker answers.
    pub(super) fn answered(
        &self,
        worker: &WorkerId,
        connection: ConnectionId,
        answer: v1::GarbageCollected,
    ) {
        let mut table = self.table();
        let session = table.attached.get_mut(worker);
        let session = session.filter(|session| session.connection == connection);
        let waits = session.and_then(|session| session.waiting.remove(&answer.request));
        if let Some(waits) = waits {
            let answer = match answer.error.is_empty() {
                true => Ok(bounded(answer.garbage.unwrap_or_default())),
                false => Err(limits::cut(&answer.error, limits::OUTCOME_TEXT_BYTES_MAX)),
            };
            // Who asked may be gone.
            let _ = waits.send(answer);
        }
    }

    fn ask(
        &self,
        worker: &WorkerId,
        dry_run: bool,
    ) -> std::result::Result<oneshot::Receiver<Answer>, NotAsked> {
        let mut table = self.table();
        let Table { attached, asked } = &mut *table;
        let session = attached.get_mut(worker).ok_or(NotAsked::Away)?;
        if !session.collects_garbage {
            return Err(NotAsked::Old);
        }
        // Also those who have gone: the worker is still at what they wanted.
        if session.waiting.len() >= WAITING_MAX {
            return Err(NotAsked::Busy);
        }
        *asked += 1;
        let request = *asked;
        let wish = v1::CollectGarbage { request, dry_run };
        let wish = message(head_message::Body::CollectGarbage(wish));
        let sent = session.way_down.try_send(Ok(wish));
        sent.map_err(|_| NotAsked::Busy)?;
        let (answer, answered) = oneshot::channel();
        session.waiting.insert(request, answer);
        Ok(answered)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No more of an answer than is shown, whatever the worker sends.
fn bounded(mut garbage: v1::Garbage) -> v1::Garbage {
    cut(&mut garbage.removals, &mut garbage.unlisted);
    cut(&mut garbage.kept, &mut garbage.unlisted_kept);
    cut(&mut garbage.aside, &mut garbage.unlisted_aside);
    cut(&mut garbage.failed, &mut garbage.unlisted_failed);
    for aside in &mut garbage.aside {
        aside.path = limits::cut(&aside.path, limits::REMOVAL_PATH_BYTES_MAX);
        aside.attempt = limits::cut(&aside.attempt, limits::NAME_BYTES_MAX);
    }
    let removals = garbage.removals.iter_mut();
    for removal in removals.chain(&mut garbage.kept).chain(&mut garbage.failed) {
        removal.path = limits::cut(&removal.path, limits::REMOVAL_PATH_BYTES_MAX);
        removal.kind = limits::cut(&removal.kind, limits::NAME_BYTES_MAX);
        removal.why = limits::cut(&removal.why, limits::LABEL_VALUE_BYTES_MAX);
    }
    garbage
}

/// Cuts a list, and counts what is not in it.
fn cut<T>(list: &mut Vec<T>, unlisted: &mut u64) {
    let more = list.len().saturating_sub(limits::REMOVALS_MAX);
    let more = u64::try_from(more).unwrap_or(u64::MAX);
    *unlisted = unlisted.saturating_add(more);
    list.truncate(limits::REMOVALS_MAX);
}

/// Asks a worker, and waits for its answer.
pub(super) async fn collect(
    services: &Services,
    request: v1::CollectGarbageRequest,
) -> Result<v1::Garbage> {
    let id: WorkerId = convert::name("worker", &request.worker).map_err(|e| status::refused(&e))?;
    let asked = services.sessions.ask(&id, request.dry_run);
    let name = cluster::called(services, &id).await;
    let answered = match asked {
        Ok(answered) => answered,
        Err(NotAsked::Busy) => return Err(status::worker_busy(&name)),
        Err(NotAsked::Old) => return Err(status::worker_old(&name)),
        Err(NotAsked::Away) => {
            cluster::find_worker(services, &id).await?;
            return Err(status::worker_away(&name));
        }
    };
    match timeout(ANSWERED_WITHIN, answered).await {
        Ok(Ok(Err(why))) => Err(status::worker_failed(&name, &why)),
        Ok(Ok(Ok(garbage))) => {
            let dry_run = request.dry_run;
            tracing::info!(worker = %id, dry_run, bytes = garbage.bytes, "garbage collected");
            Ok(garbage)
        }
        Ok(Err(_)) => Err(status::worker_left(&name)),
        Err(_) => Err(status::worker_silent(&name, ANSWERED_WITHIN)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::stream;

    fn worker() -> WorkerId {
        "w-1".parse().unwrap()
    }

    fn answer(request: u64) -> v1::GarbageCollected {
        let removal = v1::Removal {
            path: "p".repeat(2 * limits::REMOVAL_PATH_BYTES_MAX),
            ..v1::Removal::default()
        };
        let aside = v1::Aside {
            path: "p".repeat(2 * limits::REMOVAL_PATH_BYTES_MAX),
            ..v1::Aside::default()
        };
        v1::GarbageCollected {
            request,
            garbage: Some(v1::Garbage {
                removals: vec![removal.clone(); limits::REMOVALS_MAX + 3],
                bytes: 5,
                unlisted: 1,
                kept: vec![removal.clone(); limits::REMOVALS_MAX + 3],
                aside: vec![aside; limits::REMOVALS_MAX + 3],
                failed: vec![removal; limits::REMOVALS_MAX + 3],
                unlisted_kept: 0,
                unlisted_aside: 2,
                unlisted_failed: 0,
            }),
            error: String::new(),
        }
    }

    fn session(connection: u64, down: Answers<v1::HeadMessage>) -> Session {
        Session::new(ConnectionId(connection), down, true)
    }

    #[tokio::test]
    async fn an_answer_reaches_who_asked_and_no_more_of_it_than_is_shown() {
        let (answers, mut down) = stream::answers();
        let sessions = Sessions::new(7);
        assert!(matches!(sessions.ask(&worker(), true), Err(NotAsked::Away)));
        sessions.attached(&worker(), session(1, answers));
        let answered = sessions.ask(&worker(), true).unwrap();
        let Some(head_message::Body::CollectGarbage(wish)) =
            down.recv().await.unwrap().unwrap().body
        else {
            panic!("another message");
        };
        assert_eq!((wish.request, wish.dry_run), (8, true));
        // Of another session, and to another question.
        sessions.answered(&worker(), ConnectionId(2), answer(wish.request));
        sessions.answered(&worker(), ConnectionId(1), answer(wish.request + 1));
        sessions.answered(&worker(), ConnectionId(1), answer(wish.request));
        let garbage = answered.await.unwrap().unwrap();
        assert_eq!((garbage.removals.len(), garbage.unlisted), (1000, 4));
        assert_eq!(garbage.removals[0].path.len(), 4096);
        assert_eq!(
            (garbage.kept.len(), garbage.kept[0].path.len()),
            (1000, 4096)
        );
        assert_eq!(
            (garbage.aside.len(), garbage.aside[0].path.len()),
            (1000, 4096)
        );
        assert_eq!(
            (garbage.failed.len(), garbage.failed[0].path.len()),
            (1000, 4096)
        );
        assert_eq!((garbage.unlisted_kept, garbage.unlisted_aside), (3, 5));
        assert_eq!(garbage.unlisted_failed, 3);
    }

    #[tokio::test]
    async fn who_waits_hears_of_the_sessions_end_and_few_wait() {
        let (answers, _down) = stream::answers();
        let sessions = Sessions::new(7);
        sessions.attached(&worker(), session(1, answers));
        let waiting: Vec<_> = (0..WAITING_MAX)
            .map(|_| sessions.ask(&worker(), true).unwrap())
            .collect();
        assert!(matches!(sessions.ask(&worker(), true), Err(NotAsked::Busy)));
        sessions.detached(&worker(), ConnectionId(2));
        assert!(matches!(sessions.ask(&worker(), true), Err(NotAsked::Busy)));
        sessions.detached(&worker(), ConnectionId(1));
        for answered in waiting {
            answered.await.unwrap_err();
        }
        assert!(matches!(sessions.ask(&worker(), true), Err(NotAsked::Away)));
    }

    #[tokio::test]
    async fn a_replaced_session_takes_nothing_and_an_older_worker_is_not_asked() {
        let sessions = Sessions::new(0);
        let (old, mut old_down) = stream::answers();
        let (new, mut new_down) = stream::answers();
        sessions.attached(&worker(), session(2, new));
        sessions.attached(&worker(), session(1, old));
        drop(sessions.ask(&worker(), true).unwrap());
        assert!(old_down.try_recv().is_err() && new_down.try_recv().is_ok());
        let (older, _down) = stream::answers();
        let older = Session::new(ConnectionId(3), older, false);
        sessions.attached(&worker(), older);
        assert!(matches!(sessions.ask(&worker(), true), Err(NotAsked::Old)));
    }
}
