//! Reports that are not in the spool's file yet, and those who wait for them to be.

use orchestra_types::AttemptId;
use tokio::sync::oneshot;

use super::{Appended, Error, NewReport};

/// In their order. A disk that is full makes them wait; an attempt waits for each of its own, so that
/// there are no more than a few of each.
#[derive(Debug, Default)]
pub struct Unwritten {
    reports: Vec<NewReport>,
    /// Who waits, with how many of the reports it waits for.
    waiters: Vec<(u64, oneshot::Sender<u64>)>,
}

impl Unwritten {
    /// Adds reports; `done` hears the number of the last one once it is durable.
    pub fn push(&mut self, reports: Vec<NewReport>, done: oneshot::Sender<u64>) {
        self.reports.extend(reports);
        self.waiters.push((self.reports.len() as u64, done));
    }

    /// Writes all of them together behind number `last`, unless the disk is full.
    pub fn write(
        &mut self,
        last: u64,
        append: impl FnOnce(&[NewReport]) -> Result<Appended, Error>,
    ) -> Result<Appended, Error> {
        if self.reports.is_empty() {
            return Ok(Appended::Durable);
        }
        let appended = append(&self.reports)?;
        match appended {
            Appended::Durable => self.written(last),
            Appended::DiskFull => {}
        }
        Ok(appended)
    }

    fn written(&mut self, last: u64) {
        self.reports.clear();
        for (count, done) in self.waiters.drain(..) {
            // The attempt may have been aborted; its report stands all the same.
            done.send(last + count).unwrap_or_default();
        }
    }

    /// The attempts whose last report is here.
    pub fn ending(&self) -> impl Iterator<Item = AttemptId> {
        let ending = self.reports.iter().filter(|report| report.is_last());
        ending.map(|report| report.attempt)
    }
}

#[cfg(test)]
mod tests {
    use orchestra_proto::v1;
    use orchestra_types::{TaskId, Timestamp};

    use super::*;

    fn report(task: u64, body: v1::report::Body) -> NewReport {
        NewReport {
            attempt: AttemptId {
                task: TaskId(task),
                number: 1,
            },
            time: Timestamp(5),
            body,
        }
    }

    #[test]
    fn what_finds_no_room_waits_in_its_order_and_is_known_to_be_an_end() {
        let accepted = v1::report::Body::Accepted(v1::report::Accepted {});
        let given_back = v1::report::Body::GivenBack(v1::report::GivenBack {});
        let mut unwritten = Unwritten::default();
        let (done, mut first) = oneshot::channel();
        unwritten.push(
            vec![report(1, accepted), report(2, given_back.clone())],
            done,
        );
        let full = unwritten.write(7, |_| Ok(Appended::DiskFull));
        assert_eq!(full.unwrap(), Appended::DiskFull);
        assert!(first.try_recv().is_err(), "nothing is durable yet");

        let (done, mut second) = oneshot::channel();
        unwritten.push(vec![report(3, given_back)], done);
        let ending: Vec<u64> = unwritten.ending().map(|attempt| attempt.task.0).collect();
        assert_eq!(ending, [2, 3]);

        let written = unwritten.write(7, |reports| {
            let tasks: Vec<u64> = reports.iter().map(|r| r.attempt.task.0).collect();
            assert_eq!(tasks, [1, 2, 3]);
            Ok(Appended::Durable)
        });
        assert_eq!(written.unwrap(), Appended::Durable);
        assert_eq!((first.try_recv(), second.try_recv()), (Ok(9), Ok(10)));
        let again = unwritten.write(10, |_| panic!("nothing is left to write"));
        assert_eq!(again.unwrap(), Appended::Durable);
    }
}
