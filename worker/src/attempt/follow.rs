//! Follows a running CLI: lines become events, the stop ladder is climbed, the end is judged.

mod short;
mod success;
mod words;

use std::{collections::BTreeMap, time::Duration};

use orchestra_proto::v1;
use orchestra_types::{ArtifactKind, EventKind, Exit, Failure, FailureCode, Timestamp};
use tokio::time::sleep;

use self::{
    short::Short,
    success::{Disk, Success},
    words::{silent, supervisor_lost, survivors, words, words_of},
};
use super::{
    StopReason,
    launch::began_nothing,
    machine::{self, Act, Machine, Times},
    record::{Ended, Phase, Started},
    replay,
    run::{Attempt, Control, Error, chain},
    set_up,
    signs::Signs,
    stage::Stage,
};
use crate::{
    blocking::blocking,
    cli::{Action, Adapter, Stream, Verdict},
    clock, disk,
    events::Cause,
    process::{self, ExitRecord, Process, ProcessError, ProcessEvent, SetUpOutput, Whose},
    room::{self, Room},
};

/// A CLI that runs.
struct Running {
    process: Process,
    adapter: Box<dyn Adapter>,
    machine: Machine,
    started: Started,
    set_up: SetUpOutput,
    /// Given while a set-up command runs.
    signs: Option<Signs>,
    /// How long a rung of the stop ladder may take, once the worker stops.
    grace: Option<Duration>,
    /// The last stop that was heard of.
    heard: Option<StopReason>,
    /// Whether it has ended, so that neither a stop nor its times mean anything any more: only what it said
    /// is left to be read. A worker that was away finds such, whose time is long over by now.
    over: bool,
}

/// What may happen next.
enum Happened {
    Process(ProcessEvent),
    Stop(StopReason),
    Grace(Duration),
    Tick,
}

impl Attempt {
    /// From a prepared directory to the CLI's end.
    pub async fn start(&mut self) -> Result<Phase, Error> {
        // A start that came to nothing has said that it runs.
        self.control.stage.send_replace(Stage::Preparing);
        let lease = self.shared.lease.clone();
        let stopped = self.unless_stopped(lease.until_it_lasts()).await?;
        if self.lacks_room() {
            return Err(Error::NoRoom);
        }
        if let Err(failure) = stopped {
            return self.give_up(failure).await;
        }
        let launched = self.check_runner().and_then(|()| self.adapter());
        let (adapter, line) = match launched {
            Ok(launched) => launched,
            Err(failure) => return self.give_up(failure).await,
        };
        if let Err(failure) = self.take_ports().await? {
            return self.give_up(failure).await;
        }
        let started = Started {
            at: clock::now(),
            since_boot_ms: clock::ms(clock::since_boot()),
        };
        // IMPORTANT: before the process, so that no crash can start a second one.
        self.save_unless_stopped(&Phase::Started(started)).await?;
        // From here on a stop waits for the process.
        self.control.stage.send_replace(started.stage());
        let process = match self.start_process(line).await? {
            Some(Ok(process)) => process,
            // It has waited, for room on its disk, until others may have begun it.
            None => {
                self.control.stage.send_replace(Stage::Preparing);
                return Ok(Phase::Prepared);
            }
            // The supervisor could not write who it is: again when it can.
            Some(Err(error)) if began_nothing(&error) && self.lacks_room() => {
                return Ok(Phase::Prepared);
            }
            Some(Err(error)) => {
                let failure = Failure::new(FailureCode::SpawnFailed, chain(&error));
                return self.give_up(failure).await;
            }
        };
        let set_up = self.set_up_output();
        match set_up {
            // The CLI is told to have started when the command has ended.
            SetUpOutput::Pending | SetUpOutput::Behind => {
                self.tell("setup", "the project's set-up command runs")?;
            }
            SetUpOutput::Over => self.tell("started", self.started_words())?,
        }
        let running = Running {
            process,
            adapter,
            machine: Machine::new(self.order.spec.timeout),
            started,
            set_up,
            signs: None,
            grace: None,
            heard: None,
            over: false,
        };
        self.follow(running).await
    }

    /// Finds the CLI of an earlier worker process again.
    pub async fn resume(&mut self, started: Started) -> Result<Phase, Error> {
        self.control.stage.send_replace(started.stage());
        let (mut adapter, _) = match self.adapter() {
            Ok(launched) => launched,
            Err(failure) => return self.give_up(failure).await,
        };
        let (files, set_up) = (self.files.clone(), self.set_up_output());
        let (adapter, replayed) = blocking(move || {
            let replayed = replay::run(&files, adapter.as_mut(), set_up);
            (adapter, replayed)
        })
        .await;
        let replayed = replayed?;
        let mut machine = Machine::new(self.order.spec.timeout);
        if replayed.turn_ended {
            machine.on_turn_ended(elapsed(started));
        }
        let dir = self.files.process();
        let found = blocking(move || Process::reattach(&dir, replayed.offsets)).await;
        let process = match found {
            Ok(found) => {
                tracing::info!(attempt = %self.id, found = words_of(&found), "agent found again");
                found.process()
            }
            // The worker was killed just before the start, and nobody else will do it.
            Err(ProcessError::NotThere { .. }) => return Ok(Phase::Prepared),
            Err(error) => return Err(error.into()),
        };
        let running = Running {
            process,
            adapter,
            machine,
            started,
            set_up: replayed.set_up,
            signs: None,
            grace: None,
            heard: None,
            over: false,
        };
        self.follow(running).await
    }

    async fn follow(&mut self, mut running: Running) -> Result<Phase, Error> {
        let report = v1::report::Started {
            workspace: self.directory().to_string_lossy().into_owned(),
        };
        // A worker that is killed before it is durable reports it again.
        self.post(v1::report::Body::Started(report)).await?;
        running.signs = match running.set_up {
            SetUpOutput::Pending => self.give_signs(elapsed(running.started)),
            SetUpOutput::Behind | SetUpOutput::Over => None,
        };
        let looks = self.look_beside();
        let short = Short::watch(self.shared.room.subscribe(), self.directory());
        let done = self.until_end(&mut running).await;
        let was_full = short.was_seen();
        looks.end().await;
        self.shared.interims.end(self.id);
        match &done {
            Ok(_) => {}
            // Nobody looks after it later.
            Err(Error::Groundless) => running.process.end().await,
            // What cannot be followed must not go on unseen.
            Err(_) => running.process.kill().await,
        }
        let (exit, mut verdict, record) = done?;
        if let Some(not_ready) = self.not_ready().await {
            verdict.failure = Some(not_ready);
        }
        verdict.failure = match verdict.failure.take() {
            Some(said) => Some(self.for_a_limit(&record, &exit, said).await),
            None => self.cut_short(was_full).await?,
        };
        // Of one that was lost nobody knows when it ended.
        let seen = record.exit != Exit::Unknown;
        let ended_at = seen.then(|| running.started.ended_at(&record));
        Ok(self.ended(&running, exit, verdict, ended_at))
    }

    /// Why it really failed: a CLI knows nothing of limits, and of what was cut off.
    async fn for_a_limit(&self, record: &ExitRecord, exit: &Exit, mut said: Failure) -> Failure {
        let dropped = record.stdout.dropped + record.stderr.dropped;
        if dropped > 0 {
            let note = format!("; {dropped} bytes of its output were not kept");
            said.message.push_str(&note);
        }
        let mut met = record.met;
        let (dir, log) = (self.directory(), self.files.artifact(ArtifactKind::Stderr));
        met.disk_full |=
            blocking(move || disk::has_no_room(&dir) || disk::ends_with_full(&log)).await;
        process::limit_failure(met, self.shared.limits, exit, &said).unwrap_or(said)
    }

    /// A success on a disk that is full at its end, by the worker's own limit or since nothing can be written, as
    /// with a quota that is used up, or that was full before: what was written then may be cut short, also where a
    /// little room is there again. It is none where the CLI says so itself; else that is told, since it may have gone
    /// on when there was room.
    async fn cut_short(&mut self, was_full: bool) -> Result<Option<Failure>, Error> {
        let (dir, log) = (self.directory(), self.files.artifact(ArtifactKind::Stderr));
        let looked = blocking(move || {
            let said = disk::ends_with_full(&log);
            let lacks = Room::look(std::slice::from_ref(&dir)).lacking().is_some();
            (said, lacks || (said && disk::has_no_room(&dir)))
        });
        let (said, full) = looked.await;
        let disk = match (full, was_full) {
            (true, _) => Disk::IsFull,
            (false, true) => Disk::WasFull,
            (false, false) => Disk::HadRoom,
        };
        match Success::of(said, disk) {
            Success::Whole => Ok(None),
            Success::Doubted(why) => {
                self.tell("disk_full", why)?;
                Ok(None)
            }
            Success::None(why) => Ok(Some(Failure::new(FailureCode::DiskFull, why))),
        }
    }

    async fn until_end(
        &mut self,
        running: &mut Running,
    ) -> Result<(Exit, Verdict, ExitRecord), Error> {
        loop {
            let acts = match self.next(running).await? {
                Happened::Process(ProcessEvent::Line(line)) => self.on_line(running, &line)?,
                Happened::Process(ProcessEvent::Exited(record)) => {
                    self.tell_leftovers(&record)?;
                    let exit = running.machine.exit(record.exit.clone());
                    let verdict = self.judge(running.adapter.as_mut(), &exit)?;
                    return Ok((exit, verdict, record));
                }
                Happened::Stop(StopReason::Groundless) => return Err(Error::Groundless),
                Happened::Stop(_) | Happened::Tick if running.process.has_ended() => {
                    running.over = true;
                    // Nothing of it is left but a supervisor that is about to end, unless somebody has stopped it.
                    running.process.kill().await;
                    Vec::new()
                }
                Happened::Stop(reason) => {
                    running.heard = Some(reason);
                    let machine = &mut running.machine;
                    if machine.reason().is_none() && machine.heeds(reason) {
                        self.tell("stopping", words(reason))?;
                    }
                    machine.on_stop(elapsed(running.started), reason)
                }
                Happened::Grace(grace) => {
                    running.machine.on_grace(elapsed(running.started), grace);
                    Vec::new()
                }
                Happened::Tick => running.machine.on_tick(elapsed(running.started)),
            };
            self.perform(running, acts).await?;
            self.settle_beside(running).await?;
        }
    }

    /// Waits while the journal's disk is full; the agent runs on, and waits by itself when its output
    /// cannot be kept. One that is to stop is killed: the ladder would have to be written down.
    async fn settle_beside(&mut self, running: &mut Running) -> Result<(), Error> {
        let mut reclaimed = false;
        while !self.journal.settle()? {
            if !reclaimed && running.process.has_ended() {
                reclaimed = true;
                self.reclaim().await?;
                self.waits_for_room(0);
                continue;
            }
            let stop = *self.control.stop.borrow();
            if stop.is_some_and(|reason| running.machine.heeds(reason)) {
                running.process.kill().await;
            }
            sleep(room::RETRY_AFTER).await;
        }
        Ok(())
    }

    async fn next(&mut self, running: &mut Running) -> Result<Happened, Error> {
        running.process.read_first(running.set_up.first());
        if running.over {
            return Ok(Happened::Process(running.process.next().await?));
        }
        let deadline = running.machine.deadline();
        let left = deadline.map(|at| at.saturating_sub(elapsed(running.started)));
        let tick = passed(left);
        let heard = running.heard;
        let Control { stop, grace, .. } = &mut self.control;
        let known = running.grace;
        let paced = async {
            match grace.wait_for(|grace| *grace != known).await.map(|g| *g) {
                Ok(Some(grace)) => grace,
                Ok(None) | Err(_) => std::future::pending().await,
            }
        };
        let stopped = async {
            match stop
                .wait_for(|reason| reason.is_some() && *reason != heard)
                .await
                .map(|r| *r)
            {
                Ok(Some(reason)) => reason,
                // The fleet is gone, and this task will be.
                Ok(None) | Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            // Before the stop, which then climbs by it from the first rung on.
            grace = paced => {
                running.grace = Some(grace);
                Ok(Happened::Grace(grace))
            }
            reason = stopped => Ok(Happened::Stop(reason)),
            () = tick => Ok(Happened::Tick),
            event = running.process.next() => Ok(Happened::Process(event?)),
        }
    }

    fn on_line(&mut self, running: &mut Running, line: &process::Line) -> Result<Vec<Act>, Error> {
        let (stream, cause) = match line.stream {
            process::Stream::Stdout => (
                Stream::Stdout,
                Cause::Stdout {
                    offset: line.offset,
                    length: line.bytes.len() as u64,
                    next: line.end,
                },
            ),
            process::Stream::Stderr => (
                Stream::Stderr,
                Cause::Stderr {
                    offset: line.offset,
                    length: line.bytes.len() as u64,
                    next: line.end,
                },
            ),
        };
        let mut actions = Vec::new();
        let whose = match stream {
            Stream::Stdout => {
                let begins = running.set_up.begins();
                actions.extend(begins.then(|| emit(self.started())));
                Whose::Cli
            }
            Stream::Stderr => running.set_up.takes(&line.bytes),
        };
        match running.set_up {
            SetUpOutput::Pending => {}
            SetUpOutput::Behind | SetUpOutput::Over => running.signs = None,
        }
        // IMPORTANT: in one step with the line, so that a crash tells none of it twice.
        match whose {
            Whose::Cli => actions.extend(running.adapter.on_line(stream, &line.bytes)),
            Whose::SetUp => actions.extend(set_up::event_of(&line.bytes).map(emit)),
            Whose::Mark => actions.push(emit(self.started())),
            Whose::LateMark => {}
        }
        self.apply(running, cause, &line.bytes, actions)
    }

    /// That the CLI has begun.
    fn started(&self) -> EventKind {
        EventKind::Status {
            phase: "started".to_owned(),
            text: self.started_words(),
            fields: BTreeMap::new(),
        }
    }

    fn started_words(&self) -> String {
        format!("{} started", self.order.runner)
    }

    /// Does what the adapter wants, then writes the step down: a line whose answer may not have
    /// been written is read again after a crash.
    fn apply(
        &mut self,
        running: &mut Running,
        cause: Cause,
        raw: &[u8],
        actions: Vec<Action>,
    ) -> Result<Vec<Act>, Error> {
        let mut happened = Vec::new();
        let mut acts = Vec::new();
        for action in actions {
            match action {
                Action::Emit { agent, kind } => happened.push((agent, kind)),
                Action::Write(bytes) => self.write(running, &bytes),
                Action::CloseStdin => acts.push(Act::CloseStdin),
                Action::TurnEnded => {
                    acts.extend(running.machine.on_turn_ended(elapsed(running.started)));
                }
            }
        }
        self.meter(&happened);
        self.journal.record(cause, clock::now(), raw, happened)?;
        Ok(acts)
    }

    fn meter(&self, happened: &[(String, EventKind)]) {
        let events = happened.iter().map(|(_, kind)| kind);
        self.shared.meters.note(self.id, events);
    }

    async fn perform(&mut self, running: &mut Running, acts: Vec<Act>) -> Result<(), Error> {
        for act in acts {
            tracing::debug!(attempt = %self.id, ?act, "acting on the agent's process");
            match act {
                Act::AskAdapter => return Box::pin(self.ask(running)).await,
                Act::CloseStdin => running.process.close_stdin(),
                Act::Interrupt => running.process.interrupt(),
                Act::Terminate => running.process.terminate(),
                Act::Kill => running.process.kill().await,
            }
        }
        Ok(())
    }

    /// Asks the CLI to stop in its own protocol; a signal where it has none.
    async fn ask(&mut self, running: &mut Running) -> Result<(), Error> {
        let actions = running.adapter.cancel();
        let acts = if actions.is_empty() {
            running.machine.on_cannot_ask(elapsed(running.started))
        } else {
            self.apply(running, Cause::Cancel, b"", actions)?
        };
        self.perform(running, acts).await
    }

    fn write(&self, running: &mut Running, bytes: &[u8]) {
        if let Err(error) = running.process.write_stdin(bytes) {
            // A CLI that does not read cannot be told; its timeout ends it.
            tracing::warn!(attempt = %self.id, %error, "the agent does not read its input");
        }
    }

    /// Says what the CLI left behind; its supervisor, or the worker, has ended what it could.
    fn tell_leftovers(&mut self, record: &ExitRecord) -> Result<(), Error> {
        if record.survivors {
            let text = survivors(&record.surviving);
            tracing::error!(attempt = %self.id, "{text}");
            self.tell("survivors", text)?;
        }
        if let Some(silence) = record.silence {
            let text = silent(silence);
            tracing::warn!(attempt = %self.id, "{text}");
            self.tell("supervisor_ended", text)?;
        }
        let met = record.met;
        if met.oom_kills > 0 {
            let processes = if met.oom_kills == 1 {
                "process"
            } else {
                "processes"
            };
            let text = format!("{} {processes} ended for lack of memory", met.oom_kills);
            self.tell("oom", text)?;
        }
        if met.forks_refused > 0 {
            let text = process::refused_forks(met.forks_refused);
            self.tell("pids", text)?;
        }
        let dropped = record.stdout.dropped + record.stderr.dropped;
        if dropped > 0 {
            self.tell(
                "output_cut",
                format!("{dropped} bytes of output were not kept"),
            )?;
        }
        Ok(())
    }

    /// Lets the adapter judge, and writes its last events down.
    fn judge(&mut self, adapter: &mut dyn Adapter, exit: &Exit) -> Result<Verdict, Error> {
        let mut verdict = adapter.finish(exit);
        let emitted = std::mem::take(&mut verdict.events).into_iter();
        let happened: Vec<(String, EventKind)> = emitted
            .filter_map(|action| match action {
                Action::Emit { agent, kind } => Some((agent, kind)),
                Action::Write(_) | Action::CloseStdin | Action::TurnEnded => None,
            })
            .collect();
        self.journal
            .record(Cause::Finish, clock::now(), b"", happened)?;
        Ok(verdict)
    }

    fn ended(
        &self,
        running: &Running,
        exit: Exit,
        verdict: Verdict,
        ended_at: Option<Timestamp>,
    ) -> Phase {
        let Running {
            machine, started, ..
        } = running;
        self.free_slot();
        let lost = exit == Exit::Unknown && machine.reason().is_none();
        let said = if lost {
            Some(supervisor_lost())
        } else {
            verdict.failure
        };
        let times = Times::of(&self.order.spec);
        let failure = machine::failure(machine.reason(), times, said);
        Phase::Ended(Box::new(Ended {
            started_at: started.at,
            ended_at,
            exit,
            failure,
            text: verdict.text,
            kept: verdict.kept,
            usage: verdict.usage,
            session: verdict.session,
            model: verdict.model,
        }))
    }
}

/// Resolves when `left` has passed; never when there is no such moment.
async fn passed(left: Option<Duration>) {
    match left {
        // At once: the timer has no turn while line after line is there to be read.
        Some(Duration::ZERO) => {}
        Some(left) => sleep(left).await,
        None => std::future::pending().await,
    }
}

/// How long the CLI has run, whatever the wall clock did meanwhile.
fn elapsed(started: Started) -> Duration {
    clock::since_boot().saturating_sub(Duration::from_millis(started.since_boot_ms))
}

/// As an adapter says it, of the attempt itself.
fn emit(kind: EventKind) -> Action {
    let agent = String::new();
    Action::Emit { agent, kind }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_ladder_goes_on_while_lines_wait() {
        let is_now = |left| passed(left).now_or_never().is_some();
        assert!(is_now(Some(Duration::ZERO)), "before any line");
        assert!(!is_now(Some(Duration::from_secs(600))));
        assert!(!is_now(None));
    }
}
