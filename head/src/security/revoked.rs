//! Keys that were valid and are refused: of workers that were revoked, of administrators whose
//! credentials were made anew.

use std::collections::{BTreeMap, BTreeSet};

use orchestra_types::{Digest, Timestamp, WorkerId};
use serde::{Deserialize, Serialize};

use super::{Identity, issue::LEAF_LIFE, known::Holder};

/// The list, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Revoked {
    workers: BTreeMap<WorkerId, Worker>,
    /// The keys of administrators that are good; before the first rotation, all are.
    admins: Option<BTreeSet<Digest>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Worker {
    at: Timestamp,
    /// Those that are known. Another one is good only if the worker has joined with it since.
    keys: BTreeSet<Digest>,
}

impl Revoked {
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty() && self.admins.is_none()
    }

    /// Whatever key `worker` has shown until now is refused; also those that nobody here knows.
    pub fn revoke_worker(&mut self, worker: &WorkerId, key: Option<Digest>, now: Timestamp) {
        let keys = BTreeSet::new();
        let entry = self.workers.entry(worker.clone());
        let entry = entry.or_insert(Worker { at: now, keys });
        entry.at = now;
        entry.keys.extend(key);
    }

    /// Whatever key an administrator has shown until now is refused.
    pub fn revoke_admins(&mut self) {
        self.admins = Some(BTreeSet::new());
    }

    /// A key that the head has made for an administrator is good.
    pub fn admit_admin(&mut self, key: Digest) {
        if let Some(admitted) = &mut self.admins {
            admitted.insert(key);
        }
    }

    /// Whether this key was revoked: it is not to be used again.
    pub fn holds(&self, identity: &Identity, key: &Digest) -> bool {
        match identity {
            Identity::Worker(worker) => self
                .workers
                .get(worker)
                .is_some_and(|revoked| revoked.keys.contains(key)),
            Identity::Admin(_) => self.admins.as_ref().is_some_and(|good| !good.contains(key)),
            Identity::Head => false,
        }
    }

    /// Certificates of this age are refused because they have ended.
    pub fn forget_old(&mut self, now: Timestamp) {
        self.workers.retain(|_, w| w.at.plus(LEAF_LIFE) > now);
    }

    /// What the gate needs of it. `bound` is the key that a worker has joined with.
    pub fn refusals(&self, bound: &BTreeMap<WorkerId, Digest>) -> Refusals {
        let admitted = |(worker, revoked): (&WorkerId, &Worker)| {
            let key = bound.get(worker).filter(|key| !revoked.keys.contains(key));
            (worker.clone(), key.copied())
        };
        Refusals {
            workers: self.workers.iter().map(admitted).collect(),
            admins: self.admins.clone(),
        }
    }
}

/// Whom the gate refuses although TLS lets him pass.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Workers that were revoked, with the key that each has joined with since.
    workers: BTreeMap<WorkerId, Option<Digest>>,
    admins: Option<BTreeSet<Digest>>,
}

impl Refusals {
    pub fn refuse(&self, holder: &Holder) -> bool {
        match &holder.identity {
            Identity::Worker(worker) => self
                .workers
                .get(worker)
                .is_some_and(|admitted| *admitted != Some(holder.key)),
            Identity::Admin(_) => {
                let admitted = self.admins.as_ref();
                admitted.is_some_and(|admitted| !admitted.contains(&holder.key))
            }
            Identity::Head => false,
        }
    }

    /// Whether a worker was revoked and has not joined since.
    pub fn shuts_out(&self, worker: &WorkerId) -> bool {
        self.workers.get(worker).is_some_and(Option::is_none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn worker(id: &str, key: u8) -> Holder {
        Holder {
            identity: Identity::Worker(id.parse().unwrap()),
            key: Digest([key; 32]),
        }
    }

    fn id(worker: &str) -> WorkerId {
        worker.parse().unwrap()
    }

    #[test]
    fn a_revoked_worker_is_refused_until_it_joins_with_another_key() {
        let mut revoked = Revoked::default();
        let mut bound = BTreeMap::from([(id("w1"), Digest([1; 32]))]);
        assert!(!revoked.refusals(&bound).refuse(&worker("w1", 1)));
        revoked.revoke_worker(&id("w1"), Some(Digest([1; 32])), NOW);
        // The second as well: one that is bound, but was revoked.
        for _ in 0..2 {
            let refusals = revoked.refusals(&bound);
            assert!(refusals.refuse(&worker("w1", 1)) && refusals.shuts_out(&id("w1")));
            assert!(refusals.refuse(&worker("w1", 2)), "nobody has let it in");
            assert!(!refusals.refuse(&worker("w2", 1)), "another worker");
            bound.remove(&id("w1"));
        }
        bound.insert(id("w1"), Digest([2; 32]));
        let refusals = revoked.refusals(&bound);
        assert!(!refusals.refuse(&worker("w1", 2)) && !refusals.shuts_out(&id("w1")));
        assert!(refusals.refuse(&worker("w1", 1)));
    }

    #[test]
    fn a_worker_whose_key_nobody_knows_is_revoked_by_its_name() {
        let mut revoked = Revoked::default();
        revoked.revoke_worker(&id("w1"), None, NOW);
        let refusals = revoked.refusals(&BTreeMap::new());
        assert!(refusals.refuse(&worker("w1", 7)));
    }

    #[test]
    fn after_a_rotation_only_the_keys_made_since_are_good_for_administrators() {
        let admin = |key| Holder {
            identity: Identity::admin("me"),
            key: Digest([key; 32]),
        };
        let mut revoked = Revoked::default();
        revoked.admit_admin(Digest([1; 32]));
        assert!(revoked.is_empty(), "nothing was revoked");
        assert!(!revoked.refusals(&BTreeMap::new()).refuse(&admin(7)));
        revoked.revoke_admins();
        revoked.admit_admin(Digest([2; 32]));
        let refusals = revoked.refusals(&BTreeMap::new());
        for (key, refused) in [(1, true), (2, false), (7, true)] {
            let admin = admin(key);
            assert_eq!(revoked.holds(&admin.identity, &admin.key), refused);
            assert_eq!(refusals.refuse(&admin), refused);
        }
        assert!(!refusals.refuse(&worker("w1", 1)));
    }

    #[test]
    fn what_is_expired_anyhow_is_forgotten() {
        let mut revoked = Revoked::default();
        revoked.revoke_worker(&id("w1"), None, NOW);
        revoked.forget_old(NOW.plus(LEAF_LIFE - std::time::Duration::from_secs(1)));
        assert!(!revoked.is_empty());
        revoked.forget_old(NOW.plus(LEAF_LIFE));
        assert!(revoked.is_empty());
    }
}
