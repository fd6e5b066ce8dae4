//! Recurring tasks.

use std::time::Duration;

use orchestra_types::Recurrence;

use super::{Refused, Result, millis};
use crate::v1::{self, recurrence::Rule};

const DAY_MINUTES: u16 = 24 * 60;

/// Reads when a recurring task comes.
pub fn recurrence(wire: Option<v1::Recurrence>) -> Result<Recurrence> {
    let refused = |why| Refused::new("every", why);
    let rule = wire.and_then(|wire| wire.rule);
    match rule.ok_or_else(|| refused("is missing"))? {
        Rule::EveryMs(0) => Err(refused("must be more than zero")),
        Rule::EveryMs(ms) => Ok(Recurrence::Every(Duration::from_millis(ms))),
        Rule::Daily(daily) => {
            let of_day = |wire: u32| u16::try_from(wire).ok().filter(|n| *n < DAY_MINUTES);
            let parts = of_day(daily.minute).zip(of_day(daily.ahead));
            let (minute, ahead) = parts.ok_or_else(|| refused("a day has 1440 minutes"))?;
            Ok(Recurrence::Daily { minute, ahead })
        }
    }
}

/// When a recurring task comes, as wire.
#[must_use]
pub fn recurrence_to_wire(every: Recurrence) -> v1::Recurrence {
    let rule = match every {
        Recurrence::Every(every) => Rule::EveryMs(millis(every)),
        Recurrence::Daily { minute, ahead } => Rule::Daily(v1::recurrence::Daily {
            minute: minute.into(),
            ahead: ahead.into(),
        }),
    };
    v1::Recurrence { rule: Some(rule) }
}
