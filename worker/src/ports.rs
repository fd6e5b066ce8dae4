//! Ports that attempts have for servers of their own. Two attempts of a worker never share one: who has
//! which is known here, for attempts of an earlier worker process from what was written down.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The ports of a worker; cheap to clone.
#[derive(Clone, Debug)]
pub struct Ports {
    range: RangeInclusive<u16>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    taken: BTreeSet<u16>,
    /// Where the search goes on, so that what was given back rests for long.
    next: u16,
}

/// Ports that are an attempt's until this is dropped.
#[derive(Debug)]
pub struct Lease {
    of: Ports,
    ports: Vec<u16>,
}

impl Ports {
    /// Ports of `range`. The search begins at a place that `who` decides: workers on one machine do not
    /// know of each other, and with this they seldom meet.
    #[must_use]
    pub fn new(range: RangeInclusive<u16>, who: &str) -> Self {
        let sum = who.bytes().fold(0_usize, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(usize::from(byte))
        });
        let next = range.clone().nth(sum % range.len());
        let state = State {
            taken: BTreeSet::new(),
            next: next.unwrap_or(*range.start()),
        };
        Self {
            range,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// `count` ports that no attempt has and on which nobody listens; none when there are not so many.
    #[must_use]
    pub fn take(&self, count: usize) -> Option<Lease> {
        let mut state = self.state();
        let from = (state.next..=*self.range.end()).chain(*self.range.start()..state.next);
        let free = from.filter(|port| !state.taken.contains(port) && is_free(*port));
        let ports: Vec<u16> = free.take(count).collect();
        if ports.len() < count {
            return None;
        }
        if let Some(last) = ports.last() {
            let after = last.checked_add(1).filter(|port| self.range.contains(port));
            state.next = after.unwrap_or(*self.range.start());
        }
        state.taken.extend(&ports);
        Some(Lease {
            of: self.clone(),
            ports,
        })
    }

    /// What an attempt got from an earlier worker process.
    #[must_use]
    pub fn keep(&self, ports: Vec<u16>) -> Lease {
        self.state().taken.extend(&ports);
        Lease {
            of: self.clone(),
            ports,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// The ports.
    #[must_use]
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.of.state();
        for port in &self.ports {
            state.taken.remove(port);
        }
    }
}

/// Whether nobody listens there, on whatever address. A machine without IPv6 has nobody there.
fn is_free(port: u16) -> bool {
    let bound = |address: SocketAddr| TcpListener::bind(address);
    let in_use = |error: std::io::Error| error.kind() == std::io::ErrorKind::AddrInUse;
    bound((Ipv4Addr::UNSPECIFIED, port).into()).is_ok()
        && !bound((Ipv6Addr::UNSPECIFIED, port).into()).is_err_and(in_use)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A range in which nobody else looks for ports, as far as one can know.
    const FIRST: u16 = 17_310;

    fn ports(of: &Lease) -> Vec<u16> {
        of.ports().to_vec()
    }

    #[test]
    fn no_two_have_the_same_and_what_is_given_back_rests() {
        let all = Ports::new(FIRST..=FIRST + 3, "");
        let (one, two) = (all.take(1).unwrap(), all.take(2).unwrap());
        assert_eq!(ports(&one), [FIRST]);
        assert_eq!(ports(&two), [FIRST + 1, FIRST + 2]);
        assert!(all.take(2).is_none(), "only one is left");
        drop(one);
        assert_eq!(ports(&all.take(2).unwrap()), [FIRST + 3, FIRST]);
        assert!(ports(&all.take(0).unwrap()).is_empty());
    }

    #[test]
    fn a_port_on_which_somebody_listens_is_passed_over() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let all = Ports::new(port..=port, "");
        assert!(all.take(1).is_none());
        drop(taken);
        assert_eq!(ports(&all.take(1).unwrap()), [port]);
    }

    #[test]
    fn what_an_earlier_process_gave_is_not_given_again() {
        let all = Ports::new(FIRST + 10..=FIRST + 11, "");
        let kept = all.keep(vec![FIRST + 10]);
        assert_eq!(ports(&all.take(1).unwrap()), [FIRST + 11]);
        assert!(all.take(2).is_none());
        drop(kept);
        assert_eq!(all.take(2).unwrap().ports().len(), 2);
    }

    #[test]
    fn workers_begin_in_different_places() {
        let first = |who| Ports::new(20_000..=29_999, who).state().next;
        assert_ne!(first("e9cb68fc"), first("e9cb68fd"));
        assert_eq!(first("e9cb68fc"), first("e9cb68fc"));
    }
}
