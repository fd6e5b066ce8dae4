//! All attempts of this worker, whether or not the head can be reached: one owner, who starts
//! them, passes orders on, and waits for them at the end.

use std::{collections::BTreeMap, fs, io, path::Path, pin::pin, sync::Arc, time::Duration};

use orchestra_config::durable;
use orchestra_proto::v1;
use orchestra_types::{AttemptId, runner::NOOP};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{self, JoinSet},
    time::{Instant, timeout_at},
};

use crate::{
    attempt::{self, Begin, Control, Noops, Shared, Stage, StopReason},
    clock,
    waiting::{Busy, Waiting},
};

/// Orders that may wait for the fleet, which never waits itself.
const COMMANDS_BOUND: usize = 1024;
/// The rungs of the stop ladder share the time that agents have to end.
const RUNGS: u32 = 3;
/// How long agents may take to be gone once they were killed.
const KILL_WITHIN: Duration = Duration::from_secs(5);
/// How much longer results may take to reach the head when the worker stops; later ones are
/// delivered at the next start.
const DELIVER_WITHIN: Duration = Duration::from_secs(5);

/// What the head wants.
#[derive(Debug)]
pub enum Order {
    /// Start an attempt.
    Start(AttemptId, Box<v1::Start>),
    /// It is to end, for this reason.
    Stop(AttemptId, StopReason),
    /// It is no longer ours.
    GiveUp(AttemptId),
    /// The same, of one that the head does not know: what it has done is kept.
    Disown(AttemptId),
    /// What it does is kept here, whatever the head has of it.
    Keep(AttemptId),
    /// Another worker could begin it.
    Retract(AttemptId),
}

/// An attempt that the worker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub attempt: AttemptId,
    /// Whether its CLI was started.
    pub started: bool,
    /// How long its CLI has run, if it runs still.
    pub running: Option<Duration>,
}

/// The fleet is gone: the worker is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the fleet is closed")]
pub struct Closed;

enum Command {
    Order(Order),
    Held(oneshot::Sender<Vec<Held>>),
    Leased(Duration, oneshot::Sender<()>),
}

/// Reaches the fleet; cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
}

impl Handle {
    /// Passes an order on.
    pub async fn order(&self, order: Order) -> Result<(), Closed> {
        self.send(Command::Order(order)).await
    }

    /// Every attempt that the worker holds, all orders before this question included.
    pub async fn held(&self) -> Result<Vec<Held>, Closed> {
        let (reply, held) = oneshot::channel();
        self.send(Command::Held(reply)).await?;
        held.await.map_err(|_| Closed)
    }

    /// The head counts on this worker again, and all that is not the worker's any more was said before this:
    /// until then, in time since the machine's start.
    pub async fn leased(&self, until: Duration) -> Result<(), Closed> {
        let (reply, heeded) = oneshot::channel();
        self.send(Command::Leased(until, reply)).await?;
        heeded.await.map_err(|_| Closed)
    }

    async fn send(&self, command: Command) -> Result<(), Closed> {
        self.commands.send(command).await.map_err(|_| Closed)
    }
}

#[derive(Debug)]
struct Entry {
    stop: watch::Sender<Option<StopReason>>,
    stage: watch::Receiver<Stage>,
    owner: task::Id,
    /// The runner that takes a slot; none where the attempt takes none.
    runner: Option<String>,
    /// Nothing runs of it; only its last report is to be made durable.
    over: bool,
}

type Ended = (AttemptId, Result<(), attempt::Error>);

/// The owner of all attempts.
#[derive(Debug)]
pub struct Fleet {
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<Command>,
    entries: BTreeMap<AttemptId, Entry>,
    tasks: JoinSet<Ended>,
    /// Orders given ahead.
    waiting: Waiting,
    /// Whether nothing was begun of it for want of a lease.
    lacks_lease: bool,
    /// Whether some waited when that was noted last.
    waited: bool,
    /// Each ends when an attempt gives its slot free.
    slots: JoinSet<()>,
    /// How long a rung of the stop ladder may take, once the worker stops.
    grace: watch::Sender<Option<Duration>>,
    /// Attempts that are nothing to do.
    noops: Noops,
}

impl Fleet {
    /// A fleet with the attempts that an earlier worker process left.
    pub fn load(shared: Arc<Shared>) -> io::Result<(Self, Handle)> {
        let (commands, inbox) = mpsc::channel(COMMANDS_BOUND);
        let found = attempts_in(&shared.attempts)?;
        let mut unreported = attempt::unreported(&shared.aside)?;
        // One that is there anew is reported when it is not any more.
        unreported.retain(|(attempt, _)| !found.contains(attempt));
        let mut fleet = Self {
            noops: Noops::new(shared.spool.clone()),
            shared,
            inbox,
            entries: BTreeMap::new(),
            tasks: JoinSet::new(),
            waiting: Waiting::default(),
            lacks_lease: false,
            waited: false,
            slots: JoinSet::new(),
            grace: watch::channel(None).0,
        };
        let keep = |attempt| attempt::keep_ports(&fleet.shared.files(attempt), &fleet.shared.ports);
        let ports: Vec<_> = found.iter().map(|attempt| keep(*attempt)).collect();
        for (attempt, ports) in found.into_iter().zip(ports) {
            fleet.run_attempt(attempt, Begin::Found(ports));
        }
        for (attempt, place) in unreported {
            let report = attempt::report_late(Arc::clone(&fleet.shared), attempt, place);
            fleet.finish(attempt, report);
        }
        Ok((fleet, Handle { commands }))
    }

    /// Serves until it is dropped or every handle is gone. It never waits for an attempt.
    pub async fn serve(&mut self) {
        loop {
            tokio::select! {
                command = self.inbox.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => return,
                },
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    self.on_ended(ended);
                    self.begin_waiting();
                }
                Some(_) = self.slots.join_next(), if !self.slots.is_empty() => {
                    self.begin_waiting();
                }
                () = self.shared.lease.until_it_lasts(), if self.lacks_lease => self.begin_waiting(),
                never = self.noops.advance() => match never {},
            }
            self.note_waiting();
        }
    }

    /// Keeps a prefetch that is to go for as long as an order waits.
    fn note_waiting(&mut self) {
        let waits = !self.waiting.is_empty();
        if !waits && !self.waited {
            return;
        }
        self.waited = waits;
        for info in self.shared.runners.borrow().iter() {
            let waits = self.waiting.has_of(info.name.as_str());
            self.shared.prefetch.waits(&info.name, waits);
        }
    }

    /// Stops every agent by the ladder, for this reason, and lets results reach the head, both within limits.
    /// What is not delivered then stays on disk for the next start.
    pub async fn stop(&mut self, reason: StopReason) {
        let within = self.shared.config.worker.stops_within();
        self.grace.send_replace(Some(within / RUNGS));
        for entry in self.entries.values() {
            request(entry, reason);
        }
        let deadline = Instant::now() + within + KILL_WITHIN;
        let stages = self.entries.iter();
        let stages = stages.map(|(attempt, entry)| (*attempt, entry.stage.clone()));
        let mut stopped = pin!(all_stopped(stages.collect(), deadline));
        loop {
            tokio::select! {
                () = &mut stopped => break,
                Some(command) = self.inbox.recv() => self.on_last_command(command),
            }
        }
        let deadline = Instant::now() + DELIVER_WITHIN;
        loop {
            tokio::select! {
                ended = timeout_at(deadline, self.tasks.join_next()) => match ended {
                    Ok(Some(ended)) => self.on_ended(ended),
                    Ok(None) | Err(_) => break,
                },
                Some(command) = self.inbox.recv() => self.on_last_command(command),
            }
        }
        self.leave().await;
    }

    /// While the worker stops, a session may begin that takes the results to the head. Nothing else is heeded:
    /// the head hears at the next start what this worker has.
    fn on_last_command(&self, command: Command) {
        match command {
            Command::Held(reply) => self.tell_held(reply),
            // Nothing is begun any more. The session may have ended.
            Command::Leased(_, reply) => reply.send(()).unwrap_or_default(),
            Command::Order(order) => tracing::debug!(?order, "not heeded: the worker stops"),
        }
    }

    /// Ends every agent at once, and reports nothing: the worker's directories are gone.
    pub async fn abandon(&mut self) {
        for entry in self.entries.values() {
            // Whatever it was to end for before.
            entry.stop.send_replace(Some(StopReason::Groundless));
        }
        // Nothing runs of those whose results are on their way.
        self.entries
            .retain(|_, entry| *entry.stage.borrow() < Stage::Delivering);
        let deadline = Instant::now() + KILL_WITHIN;
        while !self.entries.is_empty() {
            match timeout_at(deadline, self.tasks.join_next()).await {
                Ok(Some(ended)) => self.on_ended(ended),
                Ok(None) | Err(_) => break,
            }
        }
        for attempt in self.entries.keys() {
            tracing::error!(%attempt, "it is not known whether this agent has ended");
        }
        self.tasks.shutdown().await;
    }

    /// Lets go of every attempt as a crash would: agents run on with their supervisors.
    pub async fn leave(&mut self) {
        let left = self.tasks.len();
        self.tasks.shutdown().await;
        if left > 0 {
            tracing::info!(attempts = left, "attempts are left to the next start");
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Order(Order::Start(attempt, start)) => self.take_order(attempt, start),
            Command::Order(Order::Stop(attempt, reason)) => {
                // What waits ends as any other does, with its report.
                if let Some((_, start)) = self.waiting.take(attempt) {
                    self.run_attempt(attempt, Begin::Ordered(start));
                }
                self.request(attempt, reason);
            }
            Command::Order(Order::GiveUp(attempt)) => {
                if self.waiting.take(attempt).is_none() {
                    self.request(attempt, StopReason::Lost);
                }
            }
            Command::Order(Order::Disown(attempt)) => {
                // Of one that is over here only its last report may be left to send.
                if self.waiting.take(attempt).is_none() && self.entries.contains_key(&attempt) {
                    self.keep(attempt);
                    self.request(attempt, StopReason::Lost);
                }
            }
            Command::Order(Order::Keep(attempt)) => {
                // Of one that is over only its last report is left.
                if self.entries.get(&attempt).is_some_and(|entry| !entry.over) {
                    self.keep(attempt);
                }
            }
            Command::Order(Order::Retract(attempt)) => self.give_back(attempt),
            Command::Held(reply) => self.tell_held(reply),
            Command::Leased(until, reply) => {
                self.shared.lease.set(until);
                self.begin_waiting();
                reply.send(()).unwrap_or_default();
            }
        }
    }

    fn tell_held(&self, reply: oneshot::Sender<Vec<Held>>) {
        let (held, attempts) = (self.held(), self.shared.attempts.clone());
        // Not here: a slow disk keeps no order back.
        task::spawn_blocking(move || {
            // The session that asked may have ended.
            reply.send(looked_for(held, &attempts)).unwrap_or_default();
        });
    }

    /// Begins an attempt, or lets it wait for a slot or for a lease.
    fn take_order(&mut self, attempt: AttemptId, start: Box<v1::Start>) {
        if start.runner == NOOP {
            return self.noops.take(attempt);
        }
        if self.entries.contains_key(&attempt) || self.waiting.contains(attempt) {
            return;
        }
        if !self.shared.ground.is_there() {
            return tracing::warn!(%attempt, "an order is not taken: the worker's directories are gone");
        }
        // Behind what waits: a slot that was given free just now is the first one's.
        self.waiting.push((attempt, start));
        self.begin_waiting();
        if self.waiting.contains(attempt) {
            tracing::debug!(%attempt, "attempt waits for a slot");
        }
    }

    /// Begins what waits and has a slot now. Without a lease others may have begun it.
    fn begin_waiting(&mut self) {
        self.lacks_lease = !self.waiting.is_empty() && !self.shared.lease.lasts();
        if self.lacks_lease || self.waiting.is_empty() {
            return;
        }
        let known = self.shared.runners.borrow().clone();
        let granted = self.shared.prefetch.clone();
        while let Some((attempt, start)) = self.waiting.next(&self.busy(), &known, &granted) {
            self.run_attempt(attempt, Begin::Ordered(start));
        }
    }

    fn busy(&self) -> Busy {
        let entries = self.entries.values();
        let running = entries.filter(|entry| *entry.stage.borrow() < Stage::Delivering);
        Busy {
            runners: running.filter_map(|entry| entry.runner.clone()).collect(),
            slots: self.shared.slots,
        }
    }

    /// Gives an attempt back that waits; one that has begun goes on.
    fn give_back(&mut self, attempt: AttemptId) {
        if self.waiting.take(attempt).is_none() {
            return tracing::debug!(%attempt, "called back, but it does not wait");
        }
        tracing::info!(%attempt, "attempt given back");
        self.finish(
            attempt,
            attempt::give_back(Arc::clone(&self.shared), attempt),
        );
    }

    /// The same order twice is an ordinary thing: the head repeats what it is not sure of.
    fn run_attempt(&mut self, attempt: AttemptId, begin: Begin) {
        if self.entries.contains_key(&attempt) {
            return;
        }
        // One that is found on disk takes a slot too, of a runner that is not asked for here.
        let (again, runner, reached) = match &begin {
            Begin::Ordered(start) => (false, start.runner.clone(), Stage::Preparing),
            Begin::Found(_) => {
                let reached = attempt::stage(&self.shared.files_begun(attempt));
                (true, String::new(), reached)
            }
        };
        tracing::info!(%attempt, again, "attempt taken");
        let (stop, stop_wanted) = watch::channel(None);
        let (stage_now, stage) = watch::channel(reached);
        let control = Control {
            stop: stop_wanted,
            grace: self.grace.subscribe(),
            stage: stage_now,
        };
        let mut delivering = stage.clone();
        self.slots.spawn(async move {
            // An owner that has ended gives the slot free as well.
            let _ = delivering.wait_for(|s| *s == Stage::Delivering).await;
        });
        let run = attempt::run(Arc::clone(&self.shared), attempt, begin, control);
        let owner = self.tasks.spawn(async move { (attempt, run.await) }).id();
        let entry = Entry {
            stop,
            stage,
            owner,
            runner: Some(runner),
            over: false,
        };
        self.entries.insert(attempt, entry);
    }

    /// Has an attempt's files put aside instead of removed.
    fn keep(&self, attempt: AttemptId) {
        let mark = self.shared.files_begun(attempt).unknown();
        if let Err(error) = durable::create_private(&mark) {
            tracing::warn!(%attempt, %error, "what the head may not have is not kept");
        }
    }

    fn request(&self, attempt: AttemptId, reason: StopReason) {
        match self.entries.get(&attempt) {
            Some(entry) => request(entry, reason),
            // It has ended; the head will see its report.
            None => tracing::debug!(%attempt, ?reason, "no such attempt to stop"),
        }
    }

    fn held(&self) -> Vec<Held> {
        let now = clock::since_boot();
        let held = self.entries.iter().map(|(attempt, entry)| {
            let stage = *entry.stage.borrow();
            Held {
                attempt: *attempt,
                started: stage > Stage::Preparing,
                running: stage.running_since().map(|since| now.saturating_sub(since)),
            }
        });
        let unstarted = self.waiting.ids().chain(self.noops.held());
        let unstarted = unstarted.map(|attempt| Held {
            attempt,
            started: false,
            running: None,
        });
        held.chain(unstarted).collect()
    }

    fn on_ended(&mut self, ended: Result<Ended, task::JoinError>) {
        match ended {
            Ok((attempt, Ok(()))) => {
                tracing::info!(%attempt, "attempt delivered");
                self.entries.remove(&attempt);
            }
            Ok((attempt, Err(attempt::Error::Left | attempt::Error::Stopping(_)))) => {
                tracing::info!(%attempt, "attempt left to the next start");
                self.entries.remove(&attempt);
            }
            Ok((attempt, Err(attempt::Error::NoRoom))) => {
                tracing::warn!(%attempt, "the disk is full; attempt given back");
                self.entries.remove(&attempt);
                let shared = Arc::clone(&self.shared);
                self.finish(attempt, attempt::give_back_for_room(shared, attempt));
            }
            // What fails for that is nobody's failure: the worker ends, and another one runs it.
            Ok((attempt, Err(error))) if !self.shared.ground.is_there() => {
                tracing::warn!(%attempt, error = attempt::chain(&error), "attempt abandoned");
                self.entries.remove(&attempt);
            }
            Ok((attempt, Err(error))) => self.on_failed(attempt, error),
            Err(error) if error.is_cancelled() => {}
            Err(error) => {
                let mut entries = self.entries.iter();
                let owned = entries.find(|(_, entry)| entry.owner == error.id());
                if let Some((attempt, _)) = owned {
                    self.on_failed(*attempt, attempt::Error::Panicked(error));
                }
            }
        }
    }

    /// An attempt whose own files fail is over; the head must not wait for it.
    fn on_failed(&mut self, attempt: AttemptId, error: attempt::Error) {
        let chain = attempt::chain(&error);
        tracing::error!(%attempt, error = chain, "attempt cannot go on");
        let failed_before = self.entries.remove(&attempt).is_some_and(|e| e.over);
        // The head would wait for its report as long as this worker is heard.
        assert!(!failed_before, "{attempt} cannot even be given up: {chain}");
        let report = attempt::fail(Arc::clone(&self.shared), attempt, error);
        self.finish(attempt, report);
    }

    /// Waits for the last report of an attempt that nothing runs of.
    fn finish(
        &mut self,
        attempt: AttemptId,
        report: impl Future<Output = Result<(), attempt::Error>> + Send + 'static,
    ) {
        let (stop, _) = watch::channel(None);
        let (_, stage) = watch::channel(Stage::Delivering);
        let owner = self
            .tasks
            .spawn(async move { (attempt, report.await) })
            .id();
        let entry = Entry {
            stop,
            stage,
            owner,
            runner: None,
            over: true,
        };
        self.entries.insert(attempt, entry);
    }
}

fn request(entry: &Entry, reason: StopReason) {
    entry.stop.send_if_modified(|wanted| {
        let counts = wanted.is_none_or(|before| before.yields_to(reason));
        if counts {
            *wanted = Some(reason);
        }
        counts
    });
}

/// Waits until nothing runs of any of them, or until the deadline.
async fn all_stopped(stages: Vec<(AttemptId, watch::Receiver<Stage>)>, deadline: Instant) {
    for (attempt, mut stage) in stages {
        // An owner that has ended is as good.
        let stopped = stage.wait_for(|stage| *stage == Stage::Delivering);
        if timeout_at(deadline, stopped).await.is_err() {
            tracing::error!(%attempt, "the agent could not be stopped in time");
        }
    }
}

/// Only what runs now has a time for which it has run: whoever owns it may not have seen its end yet, or not have
/// looked for it since the last worker process.
fn looked_for(held: Vec<Held>, attempts: &Path) -> Vec<Held> {
    let looked = held.into_iter().map(|held| Held {
        running: held
            .running
            .filter(|_| attempt::is_running(attempts, held.attempt)),
        ..held
    });
    looked.collect()
}

/// The attempts that have a directory.
fn attempts_in(dir: &Path) -> io::Result<Vec<AttemptId>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        match name.to_string_lossy().parse() {
            Ok(attempt) => found.push(attempt),
            Err(_) => tracing::warn!(?name, "not a directory of an attempt"),
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests;
