//! Workers that are given nothing new because a person wants it, and what ends that.

use super::escape::line;
use crate::json::fleet::Worker;

/// How many workers are named.
pub const WORKERS_MAX: usize = 4;

/// That no worker takes anything new because a person wants it, and what ends that; none where one does, or is
/// only away.
pub fn takes_nothing(workers: &[Worker]) -> Option<String> {
    let connected: Vec<&Worker> = workers.iter().filter(|w| w.state == "connected").collect();
    match connected.is_empty() {
        false => closed(&connected),
        true => closed(&workers.iter().collect::<Vec<_>>()),
    }
}

/// Which of these are given nothing, and what ends that; none where one of them is open.
pub fn closed(workers: &[&Worker]) -> Option<String> {
    if workers.iter().any(|worker| worker.availability == "open") {
        return None;
    }
    let (revoked, closed): (Vec<&Worker>, Vec<&Worker>) = workers
        .iter()
        .partition(|worker| worker.availability == "revoked");
    let Some(first) = closed.first() else {
        let name = line(&revoked.first()?.name);
        return Some(format!(
            "{name} is revoked; `ctl token create` lets it join again, `ctl start` where it is the worker of the head's machine"
        ));
    };
    let (name, state) = (line(&first.name), line(&first.availability));
    if closed.len() == 1 {
        return Some(format!(
            "{name} is {state}; `ctl workers uncordon {name}` ends that"
        ));
    }
    let names: Vec<_> = closed.iter().map(|w| line(&w.name)).collect();
    let named = listed(&names, WORKERS_MAX);
    Some(format!(
        "{named} take nothing new; `ctl workers` says why, and `ctl workers uncordon {name}` opens {name} again"
    ))
}

/// The first of these names, and how many more there are.
pub fn listed(names: &[impl AsRef<str>], max: usize) -> String {
    let first: Vec<&str> = names.iter().take(max).map(AsRef::as_ref).collect();
    let first = first.join(", ");
    match names.len().saturating_sub(max) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use orchestra_proto::v1;

    use super::*;

    fn worker(name: &str, state: &str, availability: &str) -> Worker {
        let info = v1::WorkerInfo {
            id: format!("w-{name}"),
            name: name.to_owned(),
            machine: "m".to_owned(),
            ..Default::default()
        };
        Worker::read(v1::Worker {
            info: Some(info),
            state: state.to_owned(),
            availability: availability.to_owned(),
            ..Default::default()
        })
        .unwrap()
    }

    #[test]
    fn that_nobody_takes_anything_is_said_unless_one_does_or_is_only_away() {
        let said = |workers: &[(&str, &str, &str)]| {
            let workers = workers
                .iter()
                .map(|(name, state, is)| worker(name, state, is));
            takes_nothing(&workers.collect::<Vec<_>>())
        };
        for state in ["cordoned", "draining", "drained"] {
            let one = said(&[("vm", "connected", state), ("old", "lost", "open")]).unwrap();
            assert_eq!(
                one,
                format!("vm is {state}; `ctl workers uncordon vm` ends that")
            );
        }
        let two = said(&[
            ("a", "connected", "drained"),
            ("b", "connected", "cordoned"),
        ])
        .unwrap();
        assert!(two.starts_with("a, b take nothing new; "), "{two}");
        // It ends itself, and is not connected any more.
        let revoked = said(&[("vm", "lost", "revoked")]).unwrap();
        assert!(
            revoked.contains("`ctl token create` lets it join again"),
            "{revoked}"
        );
        assert_eq!(said(&[]), None);
        assert_eq!(
            said(&[("a", "connected", "drained"), ("b", "connected", "open")]),
            None
        );
        assert_eq!(
            said(&[("a", "lost", "drained"), ("b", "lost", "open")]),
            None
        );
    }
}
