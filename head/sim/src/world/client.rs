//! Clients: what they asked, what was answered, and what they therefore rely on.

use orchestra_core::{Reply, RequestId};
use orchestra_types::TaskId;

use crate::{
    event::Ask,
    rule::{Checked, hold},
    shadow::{Shadow, bit},
};

/// A call on its way to the head, or in its hands.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its number.
    pub request: RequestId,
    /// What is asked.
    pub ask: Ask,
}

/// Everything that clients know.
#[derive(Debug, Default)]
pub struct Clients {
    /// Calls that have not reached the head.
    pub on_the_way: Vec<Call>,
    /// Calls that the head has, or had when it was lost.
    pub waiting: Vec<Call>,
    /// Questions without an answer, to be asked again.
    pub unanswered: Vec<Ask>,
    /// The tasks of acknowledged submissions, by their number.
    pub submitted: Vec<Option<Vec<TaskId>>>,
    /// Tasks that clients know of.
    pub tasks: Vec<TaskId>,
    /// How many schedules were ever asked for.
    pub schedules: u64,
    /// How many tasks were ever asked for.
    pub wanted: usize,
    next_request: u64,
}

impl Clients {
    /// Sends a question.
    pub fn send(&mut self, ask: Ask) {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.on_the_way.push(Call { request, ask });
    }

    /// An answer reached its client.
    pub fn answered(&mut self, request: RequestId, reply: Reply, known: &Shadow) -> Checked {
        let Some(place) = self.waiting.iter().position(|c| c.request == request) else {
            return Ok(());
        };
        let call = self.waiting.swap_remove(place);
        match (call.ask, reply) {
            // Nothing is said of who asks again after so long that his key is forgotten.
            (Ask::Submit { key, .. }, _) if known.forgotten_keys & (1 << (key & 63)) != 0 => Ok(()),
            (Ask::Submit { key, .. }, Reply::Submitted { ids, .. }) => self.note(key, ids),
            (Ask::Submit { key, .. }, _) => {
                let known = self.submitted[key].is_some();
                hold!(Keys, !known, "key {key} was known and is refused");
                Ok(())
            }
            (ask, Reply::NotFound(_)) => {
                let id = match ask {
                    Ask::Cancel(id)
                    | Ask::Retry(id)
                    | Ask::Release(id)
                    | Ask::Applied(id)
                    | Ask::Limit(id, _)
                    | Ask::Prioritise(id, _) => id,
                    Ask::Submit { .. }
                    | Ask::Cordon(..)
                    | Ask::Remove(_)
                    | Ask::Day(..)
                    | Ask::Recur { .. }
                    | Ask::ChangeSchedule(..) => return Ok(()),
                };
                hold!(
                    Durable,
                    !self.tasks.contains(&id) || known.forgotten & bit(id) != 0,
                    "{id} was there and is not"
                );
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn note(&mut self, key: usize, ids: Vec<TaskId>) -> Checked {
        match &self.submitted[key] {
            Some(before) => {
                hold!(Keys, *before == ids, "key {key}: {before:?}, then {ids:?}");
            }
            None => {
                let mut of_others = self.submitted.iter().flatten().flatten();
                let taken = of_others.any(|id| ids.contains(id));
                hold!(Durable, !taken, "{ids:?} are the tasks of another key");
                self.tasks.extend(&ids);
                self.submitted[key] = Some(ids);
            }
        }
        Ok(())
    }

    /// An answer is lost: its client asks again.
    pub fn reply_lost(&mut self, request: RequestId) {
        if let Some(place) = self.waiting.iter().position(|c| c.request == request) {
            let call = self.waiting.swap_remove(place);
            self.unanswered.push(call.ask);
        }
    }

    /// The head is gone: what it had is not answered. Each is asked again, or given up.
    pub fn head_lost(&mut self) {
        let lost = self.waiting.drain(..).map(|call| call.ask);
        self.unanswered.extend(lost);
    }
}
