//! One of many who submit, submit again and cancel, and who remember what they were told.

use std::time::Duration;

use tonic::Code;

use crate::{
    client::{self, Admin, Answer},
    ledger::{Kind, Shared},
};

/// Longest pause between two questions.
const PAUSE_MICROS_MAX: u64 = 4_000;
/// Pause while the head's disk is full.
const PAUSE_WHILE_FULL: Duration = Duration::from_millis(20);
/// Most tasks of one submission.
const TASKS_MAX: usize = 3;
/// How many of its own submissions it remembers for repeating and cancelling.
const REMEMBERED_MAX: usize = 64;

/// A submitter. It lives longer than the heads it speaks to.
#[derive(Debug)]
pub struct Submitter {
    name: String,
    rng: fastrand::Rng,
    made: u64,
    /// Sent without an answer: first of all it is sent again.
    pending: Option<Question>,
    /// Acknowledged submissions.
    own: Vec<(Question, Vec<u64>)>,
}

#[derive(Clone, Debug)]
enum Question {
    Submit {
        key: String,
        count: usize,
        kind: Kind,
    },
    Cancel(u64),
}

/// How asking ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It was answered.
    Answered,
    /// The head is gone, or its disk is full: again later.
    Again(Answer),
}

impl Submitter {
    /// A submitter with a name that no other one has.
    #[must_use]
    pub fn new(name: String, seed: u64) -> Self {
        Self {
            name,
            rng: fastrand::Rng::with_seed(seed),
            made: 0,
            pending: None,
            own: Vec::new(),
        }
    }

    /// Asks one question after another until the head is gone.
    pub async fn run(&mut self, mut admin: Admin, ledger: &Shared) {
        loop {
            let pause = match self.ask(&mut admin, ledger).await {
                Asked::Answered => Duration::from_micros(self.rng.u64(0..PAUSE_MICROS_MAX)),
                Asked::Again(Answer::Full) => PAUSE_WHILE_FULL,
                Asked::Again(Answer::Cut | Answer::Refused) => return,
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks the pending question, or a new one.
    pub async fn ask(&mut self, admin: &mut Admin, ledger: &Shared) -> Asked {
        let question = match self.pending.take() {
            Some(question) => question,
            None => self.next_question(),
        };
        self.send(question, admin, ledger).await
    }

    fn next_question(&mut self) -> Question {
        if !self.own.is_empty() {
            let (submit, ids) = &self.own[self.rng.usize(0..self.own.len())];
            match self.rng.u8(0..10) {
                0 => return submit.clone(),
                1 | 2 => return Question::Cancel(ids[self.rng.usize(0..ids.len())]),
                _ => {}
            }
        }
        self.made += 1;
        Question::Submit {
            key: format!("{}-{}", self.name, self.made),
            count: self.rng.usize(1..=TASKS_MAX),
            kind: match self.rng.bool() {
                true => Kind::Waits,
                false => Kind::Runs,
            },
        }
    }

    async fn send(&mut self, question: Question, admin: &mut Admin, ledger: &Shared) -> Asked {
        self.pending = Some(question.clone());
        let sent = match &question {
            Question::Submit { key, count, kind } => {
                let sent = submit(key, *count, *kind, admin, ledger).await;
                if let Ok(ids) = &sent {
                    self.remember(question, ids.clone());
                }
                sent.map(drop)
            }
            Question::Cancel(id) => cancel(*id, admin, ledger).await,
        };
        match sent {
            Ok(()) => {
                self.pending = None;
                Asked::Answered
            }
            Err(answer) => Asked::Again(answer),
        }
    }

    fn remember(&mut self, question: Question, ids: Vec<u64>) {
        if ids.is_empty() {
            return;
        }
        if self.own.len() == REMEMBERED_MAX {
            let forgotten = self.rng.usize(0..REMEMBERED_MAX);
            self.own.swap_remove(forgotten);
        }
        self.own.push((question, ids));
    }
}

async fn submit(
    key: &str,
    count: usize,
    kind: Kind,
    admin: &mut Admin,
    ledger: &Shared,
) -> Result<Vec<u64>, Answer> {
    ledger.lock().submitting(key, count, kind);
    match admin.submit(client::submission(key, count, kind)).await {
        Ok(response) => {
            let ids = response.into_inner().ids;
            ledger.lock().submitted(key, ids.clone());
            Ok(ids)
        }
        Err(status) => Err(unanswered("submit", key, &status, ledger)),
    }
}

async fn cancel(id: u64, admin: &mut Admin, ledger: &Shared) -> Result<(), Answer> {
    ledger.lock().cancelling(id);
    match client::cancel(admin, id).await {
        Ok(()) => {
            ledger.lock().cancelled(id);
            Ok(())
        }
        // It has ended: by an earlier cancel, or by itself.
        Err(status) if status.code() == Code::FailedPrecondition => Ok(()),
        Err(status) => Err(unanswered("cancel", &id.to_string(), &status, ledger)),
    }
}

fn unanswered(what: &str, which: &str, status: &tonic::Status, ledger: &Shared) -> Answer {
    let meaning = client::meaning(status);
    if meaning == Answer::Refused {
        let text = format!("{what} {which} was refused: {status}");
        ledger.lock().broken.push(text);
    }
    meaning
}
