//! Orders that the head gave ahead: they wait here until a slot of their runner is free.

use std::collections::VecDeque;

use orchestra_proto::v1;
use orchestra_types::{AttemptId, runner::RunnerInfo};

use crate::prefetch::Prefetch;

/// An order to start.
pub type Start = (AttemptId, Box<v1::Start>);

/// Orders that wait, first come first.
#[derive(Debug, Default)]
pub struct Waiting(VecDeque<Start>);

/// What runs now.
#[derive(Clone, Debug, Default)]
pub struct Busy {
    /// The runner of each attempt that takes a slot; empty where it is not known.
    pub runners: Vec<String>,
    /// How many there may be in all.
    pub slots: u32,
}

impl Busy {
    /// Whether an order may begin. Only those of runners that may have a prefetch ever wait: for all others
    /// the head counts the slots alone.
    pub fn has_slot(&self, runner: &str, known: &[RunnerInfo], prefetch: &Prefetch) -> bool {
        let Some(info) = known.iter().find(|info| info.name.as_str() == runner) else {
            return true;
        };
        let of_runner = self.runners.iter().filter(|name| *name == runner).count();
        let full = of_runner >= info.slots as usize || self.runners.len() >= self.slots as usize;
        !full || !(info.prefetch > 0 || prefetch.is_auto(&info.name))
    }
}

impl Waiting {
    /// Puts an order at the end.
    pub fn push(&mut self, start: Start) {
        self.0.push_back(start);
    }

    /// Takes an order out.
    pub fn take(&mut self, attempt: AttemptId) -> Option<Start> {
        let place = self.0.iter().position(|(id, _)| *id == attempt)?;
        self.0.remove(place)
    }

    /// Takes the first order out that may begin.
    pub fn next(
        &mut self,
        busy: &Busy,
        known: &[RunnerInfo],
        prefetch: &Prefetch,
    ) -> Option<Start> {
        let mut orders = self.0.iter();
        let place = orders.position(|(_, start)| busy.has_slot(&start.runner, known, prefetch))?;
        self.0.remove(place)
    }

    /// Whether an order of a runner waits.
    pub fn has_of(&self, runner: &str) -> bool {
        self.0.iter().any(|(_, start)| start.runner == runner)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an order waits.
    pub fn contains(&self, attempt: AttemptId) -> bool {
        self.ids().any(|id| id == attempt)
    }

    /// The attempts that wait.
    pub fn ids(&self) -> impl Iterator<Item = AttemptId> {
        self.0.iter().map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use orchestra_types::TaskId;

    use super::*;

    fn runner(name: &str, slots: u32, prefetch: u32) -> RunnerInfo {
        RunnerInfo {
            slots,
            prefetch,
            agentic: false,
            ..RunnerInfo::ready(name.parse().unwrap())
        }
    }

    fn busy(runners: &[&str]) -> Busy {
        Busy {
            runners: runners.iter().map(ToString::to_string).collect(),
            slots: 3,
        }
    }

    #[test]
    fn only_what_may_be_given_ahead_waits_for_a_slot() {
        let (known, none) = (
            [runner("claude", 1, 0), runner("shell", 2, 4)],
            Prefetch::default(),
        );
        assert!(busy(&["claude", "claude", "claude"]).has_slot("claude", &known, &none));
        assert!(busy(&["shell", "claude"]).has_slot("shell", &known, &none));
        assert!(!busy(&["shell", "shell"]).has_slot("shell", &known, &none));
        assert!(!busy(&["claude", "claude", "shell"]).has_slot("shell", &known, &none));
    }

    #[test]
    fn orders_begin_in_their_order_and_can_be_taken_out() {
        let (known, none) = ([runner("shell", 1, 4)], Prefetch::default());
        let id = |n| AttemptId {
            task: TaskId(n),
            number: 1,
        };
        let mut waiting = Waiting::default();
        for n in 1..4 {
            let runner = "shell".to_owned();
            waiting.push((
                id(n),
                Box::new(v1::Start {
                    runner,
                    ..v1::Start::default()
                }),
            ));
        }
        assert!(waiting.next(&busy(&["shell"]), &known, &none).is_none());
        assert!(waiting.take(id(1)).is_some() && waiting.take(id(1)).is_none());
        let next = waiting.next(&busy(&[]), &known, &none).map(|(id, _)| id);
        assert_eq!(next, Some(id(2)));
        assert_eq!(waiting.ids().collect::<Vec<_>>(), [id(3)]);
    }
}
