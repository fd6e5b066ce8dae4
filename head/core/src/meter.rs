//! What running attempts have used so far, as their workers say it now and then.

use orchestra_types::{AttemptId, Timestamp, WorkerId};

use crate::{ConnectionId, Core, Step, input::Meter};

impl Core {
    pub(crate) fn on_metered(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        worker: &WorkerId,
        attempt: AttemptId,
        meter: &Meter,
        step: &mut Step,
    ) {
        let is_current = self
            .workers
            .get(worker)
            .is_some_and(|w| w.is_on(connection));
        if !is_current || self.holder(attempt) != Some(worker) {
            return; // Its outcome has the last word, and another holder its own readings.
        }
        match meter.ran {
            Some(ran) if !self.uses_more(attempt, meter) => self.hear_run_ended(now, attempt, ran),
            used_more => self.hear_it_goes_on(now, attempt, used_more.is_some()),
        }
        self.read_usage(now, attempt, &meter.reading, step);
        if let Some(limited) = &meter.limited {
            self.meet_while_running(now, attempt, limited, step);
        }
    }
}
