//! Join tokens, and which worker has which key. One file, written whole before anything is told.
//!
//! A token is kept as the SHA-256 of its secret. It is good for one worker with one key: the same
//! worker may repeat a request whose answer was lost, nobody else may use the token again. A worker
//! id that has a key cannot be taken by another key, whatever token comes with it, until that worker is
//! revoked.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use orchestra_config::durable::{self, Access};
use orchestra_proto::token::Secret;
use orchestra_types::{Digest, Timestamp, WorkerId};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    Identity,
    guard::Watch,
    issue,
    pki::Error,
    renewal::RenewalError,
    revoked::{Refusals, Revoked},
    tokens::{Issued, Token, TokenState},
};

/// Most tokens that may be open at once.
const OPEN_TOKENS_MAX: usize = 256;
/// The format of the file.
const VERSION: u32 = 1;

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// There are too many.
    #[error(
        "{OPEN_TOKENS_MAX} join tokens are open; `ctl token list` shows them: use them, end some with `ctl token revoke`, \
         or wait until some have expired"
    )]
    TooMany,
    /// It could not be stored or made.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// Why a worker may not join.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The request is not well formed.
    #[error("{0}")]
    Malformed(String),
    /// Nobody made this token, or it was forgotten after its end.
    #[error("the join token is not known here; make a new one with `ctl token create`")]
    UnknownToken,
    /// Its time is over.
    #[error("the join token has expired; make a new one with `ctl token create`")]
    Expired,
    /// It is good for one worker, and that was another one.
    #[error("the join token was used already; make a new one with `ctl token create`")]
    Used,
    /// A person has ended it.
    #[error("the join token was revoked; make a new one with `ctl token create`")]
    RevokedToken,
    /// The key is one that was revoked.
    #[error("this key was revoked; join with a new one")]
    Revoked,
    /// The worker's id belongs to another key.
    #[error(
        "worker `{worker}` has joined with another key; remove the file `id` in that worker's \
         directory to join as a new worker, or revoke the other key: `ctl workers revoke {worker}`"
    )]
    OtherKey {
        /// The worker.
        worker: WorkerId,
    },
    /// It could not be made durable.
    #[error("the head could not store the enrolment")]
    Store(#[source] Error),
    /// The certificate could not be made.
    #[error("the head could not make the certificate")]
    Sign(#[source] Error),
}

/// A worker with the key that it showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) worker: WorkerId,
    pub(super) key: Digest,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Book {
    version: u32,
    tokens: Vec<Token>,
    workers: BTreeMap<WorkerId, Digest>,
    /// An older head does not read a file that has this: it would let in who is shut out.
    #[serde(default, skip_serializing_if = "Revoked::is_empty")]
    revoked: Revoked,
}

impl Book {
    fn new() -> Self {
        Self {
            version: VERSION,
            tokens: Vec::new(),
            workers: BTreeMap::new(),
            revoked: Revoked::default(),
        }
    }

    /// A token stays for a while after its end, so that "expired" can be told from "unknown".
    fn forget_old(&mut self, now: Timestamp) {
        const KEPT: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 3600);
        self.tokens.retain(|t| t.expires_at.plus(KEPT) > now);
    }

    fn open_tokens(&self, now: Timestamp) -> usize {
        let open = |t: &&Token| t.state(now) == TokenState::Open;
        self.tokens.iter().filter(open).count()
    }

    fn redeem(&mut self, hash: Digest, claim: &Claim, now: Timestamp) -> Result<(), EnrolError> {
        // Every token is compared in full: the time taken says nothing about any of them.
        let mut found = None;
        for token in &mut self.tokens {
            if constant_time_eq(&token.hash.0, &hash.0) {
                found = Some(token);
            }
        }
        let token = found.ok_or(EnrolError::UnknownToken)?;
        if token.revoked_at.is_some() {
            return Err(EnrolError::RevokedToken);
        }
        if token.expires_at <= now {
            return Err(EnrolError::Expired);
        }
        match &token.used_by {
            Some(earlier) if earlier == claim => return Ok(()),
            Some(_) => return Err(EnrolError::Used),
            None => token.used_by = Some(claim.clone()),
        }
        self.bind(claim)
    }

    fn revoke_token(&mut self, id: &str, now: Timestamp) -> Option<Issued> {
        let token = self.tokens.iter_mut().find(|token| token.id() == id)?;
        token.revoke(now);
        Some(token.issued(now))
    }

    /// Forgets the tokens that nobody has used, as far as this book knows; how many were open.
    fn forget_unused(&mut self, now: Timestamp) -> usize {
        let open = self.open_tokens(now);
        self.tokens.retain(|token| token.used_by.is_some());
        open
    }

    /// The worker's key is refused from now on, and so is the token that it came with.
    fn revoke(&mut self, worker: &WorkerId, now: Timestamp) {
        let key = self.workers.remove(worker);
        let used = |token: &Token| token.used_by.as_ref().is_some_and(|c| c.worker == *worker);
        self.tokens.retain(|token| !used(token));
        self.revoked.forget_old(now);
        self.revoked.revoke_worker(worker, key, now);
    }

    fn refusals(&self) -> Arc<Refusals> {
        Arc::new(self.revoked.refusals(&self.workers))
    }

    fn bind(&mut self, claim: &Claim) -> Result<(), EnrolError> {
        let identity = Identity::Worker(claim.worker.clone());
        if self.revoked.holds(&identity, &claim.key) {
            return Err(EnrolError::Revoked);
        }
        let key = *self
            .workers
            .entry(claim.worker.clone())
            .or_insert(claim.key);
        if key == claim.key {
            Ok(())
        } else {
            Err(EnrolError::OtherKey {
                worker: claim.worker.clone(),
            })
        }
    }
}

/// The book of tokens and workers.
pub(super) struct Enrolment {
    path: PathBuf,
    book: Mutex<Book>,
    /// What follows from it for the gate.
    refusals: watch::Sender<Arc<Refusals>>,
}

impl Enrolment {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let book = match fs::read(path) {
            Ok(bytes) => parse(path, &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Book::new(),
            Err(error) => return Err(Error::file(path)(error)),
        };
        Ok(Self {
            path: path.to_owned(),
            refusals: watch::Sender::new(book.refusals()),
            book: Mutex::new(book),
        })
    }

    /// Who is refused, now and as it changes.
    pub(super) fn refusals(&self) -> Watch {
        self.refusals.subscribe()
    }

    /// Whether a worker was revoked and has not joined since.
    pub(super) fn shuts_out(&self, worker: &WorkerId) -> bool {
        self.refusals.borrow().shuts_out(worker)
    }

    /// Whether this key was revoked.
    pub(super) fn has_revoked(&self, identity: &Identity, key: &Digest) -> bool {
        self.lock().revoked.holds(identity, key)
    }

    /// Whether who shows this key may have a new certificate for it.
    pub(super) fn may_renew(&self, holder: &Identity, key: &Digest) -> Result<(), RenewalError> {
        let book = self.lock();
        if book.revoked.holds(holder, key) {
            return Err(RenewalError::Revoked(holder.clone()));
        }
        let known = match holder {
            Identity::Worker(worker) => book.workers.get(worker) == Some(key),
            Identity::Admin(_) => true,
            // It makes its own.
            Identity::Head => false,
        };
        match known {
            true => Ok(()),
            false => Err(RenewalError::Unknown(holder.clone())),
        }
    }

    /// Whether a worker has joined, or is this machine's.
    pub(super) fn knows(&self, worker: &WorkerId) -> bool {
        self.lock().workers.contains_key(worker)
    }

    /// Shuts a worker out. When it returns, that is on disk, and the gate knows.
    pub(super) fn revoke_worker(&self, worker: &WorkerId, now: Timestamp) -> Result<(), Error> {
        self.change(|book| {
            book.revoke(worker, now);
            Ok(())
        })
    }

    /// Refuses every key that an administrator has shown until now; `key` is good. When it returns, that
    /// is on disk, and the gate knows.
    pub(super) fn rotate_admins(&self, key: Digest) -> Result<(), Error> {
        self.change(|book| {
            book.revoked.revoke_admins();
            book.revoked.admit_admin(key);
            Ok(())
        })
    }

    /// Lets an administrator in with a key that the head has made itself.
    pub(super) fn admit_admin(&self, key: Digest) -> Result<(), Error> {
        if !self.lock().revoked.holds(&Identity::admin(""), &key) {
            return Ok(());
        }
        self.change(|book| {
            book.revoked.admit_admin(key);
            Ok(())
        })
    }

    /// Makes a token's secret; only its hash is kept.
    pub(super) fn create(
        &self,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<Secret, TokenError> {
        let mut secret = Secret(issue::random()?);
        self.change(|book| {
            book.forget_old(now);
            if book.open_tokens(now) >= OPEN_TOKENS_MAX {
                return Err(TokenError::TooMany);
            }
            // The id is a part of the hash: no two tokens shall have the same.
            while book.tokens.iter().any(|t| t.id() == secret.id()) {
                secret = Secret(issue::random()?);
            }
            book.tokens.push(Token::new(secret.hash(), now, expires_at));
            Ok(())
        })?;
        Ok(secret)
    }

    /// The tokens that are known, the oldest first.
    pub(super) fn tokens(&self, now: Timestamp) -> Vec<Issued> {
        let book = self.lock();
        book.tokens.iter().map(|token| token.issued(now)).collect()
    }

    /// Ends a token; none where there is none of that id. When it returns, that is on disk.
    pub(super) fn revoke_token(&self, id: &str, now: Timestamp) -> Result<Option<Issued>, Error> {
        if !self.lock().tokens.iter().any(|token| token.id() == id) {
            return Ok(None);
        }
        self.change(|book| Ok(book.revoke_token(id, now)))
    }

    /// Uses the token with this secret for `claim`. When it returns, that is on disk.
    pub(super) fn redeem(
        &self,
        secret: &Secret,
        claim: &Claim,
        now: Timestamp,
    ) -> Result<(), EnrolError> {
        self.change(|book| book.redeem(secret.hash(), claim, now))
    }

    /// Binds the local worker's id to its key, which the head has made itself.
    pub(super) fn reserve(&self, worker: &WorkerId, key: Digest) -> Result<(), Error> {
        let known = self.lock().workers.get(worker) == Some(&key);
        if known {
            return Ok(());
        }
        self.change(|book| {
            book.workers.insert(worker.clone(), key);
            Ok(())
        })
    }

    /// Changes a copy, writes it, and only then takes it: a failed write changes nothing.
    fn change<T, E: From<Error>>(
        &self,
        edit: impl FnOnce(&mut Book) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut book = self.lock();
        let mut next = book.clone();
        let done = edit(&mut next)?;
        write(&self.path, &next)?;
        if next.revoked != book.revoked || next.workers != book.workers {
            self.refusals.send_replace(next.refusals());
        }
        *book = next;
        Ok(done)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Book> {
        // A panic cannot leave half a change: `change` replaces the book in one step.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Error> for EnrolError {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

/// Forgets the tokens in the file `path` that nobody had used when it was copied: they may have been since, and
/// would work again. How many were open. One that does not read lets nobody in, and a start says what to do.
pub(super) fn forget_unused(path: &Path, now: Timestamp) -> Result<usize, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(Error::file(path)(error)),
    };
    let Ok(mut book) = parse(path, &bytes) else {
        return Ok(0);
    };
    let open = book.forget_unused(now);
    write(path, &book)?;
    Ok(open)
}

fn write(path: &Path, book: &Book) -> Result<(), Error> {
    let json = serde_json::to_vec_pretty(book).expect("texts and numbers are JSON");
    durable::write(path, &json, Access::Private).map_err(Error::file(path))
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Book, Error> {
    let damaged = |why: String| Error::DamagedTokens {
        path: path.to_owned(),
        why,
    };
    let book: Book = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
    if book.version == VERSION {
        Ok(book)
    } else {
        Err(damaged(format!("version {} is not known", book.version)))
    }
}

fn constant_time_eq(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let difference = a.iter().zip(b).fold(0u8, |all, (x, y)| all | (x ^ y));
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn claim(worker: &str, key: u8) -> Claim {
        Claim {
            worker: worker.parse().unwrap(),
            key: Digest([key; 32]),
        }
    }

    fn opened() -> (tempfile::TempDir, Enrolment, Secret) {
        let dir = tempfile::tempdir().unwrap();
        let enrolment = Enrolment::open(&dir.path().join("tokens.json")).unwrap();
        let secret = enrolment
            .create(NOW, NOW.plus(Duration::from_secs(60)))
            .unwrap();
        (dir, enrolment, secret)
    }

    #[test]
    fn a_token_is_good_once_also_after_a_restart() {
        let (dir, enrolment, secret) = opened();
        enrolment.redeem(&secret, &claim("a", 1), NOW).unwrap();
        let again = Enrolment::open(&dir.path().join("tokens.json")).unwrap();
        for enrolment in [enrolment, again] {
            let other = enrolment.redeem(&secret, &claim("b", 2), NOW);
            assert!(matches!(other, Err(EnrolError::Used)));
            let repeated = enrolment.redeem(&secret, &claim("a", 1), NOW);
            assert!(repeated.is_ok(), "a lost answer may be asked for again");
        }
    }

    #[test]
    fn a_revoked_token_lets_nobody_in_and_who_has_joined_stays() {
        let (dir, enrolment, secret) = opened();
        let end = NOW.plus(Duration::from_secs(60));
        let used = enrolment.create(NOW, end).unwrap();
        enrolment.redeem(&used, &claim("a", 1), NOW).unwrap();
        let listed = enrolment.tokens(NOW);
        let of = |state, used_by: Option<&str>, secret: &Secret| Issued {
            id: secret.id(),
            state,
            created_at: Some(NOW),
            expires_at: end,
            used_by: used_by.map(|worker| worker.parse().unwrap()),
        };
        let expected = [
            of(TokenState::Open, None, &secret),
            of(TokenState::Used, Some("a"), &used),
        ];
        assert_eq!(listed, expected);
        for token in &listed {
            let revoked = enrolment.revoke_token(&token.id, NOW).unwrap().unwrap();
            assert_eq!(revoked.state, TokenState::Revoked);
            let again = enrolment.revoke_token(&token.id, end).unwrap();
            assert_eq!(
                again,
                Some(revoked),
                "whoever says it again is told the same"
            );
        }
        assert_eq!(enrolment.revoke_token("00000000", NOW).unwrap(), None);
        let again = Enrolment::open(&dir.path().join("tokens.json")).unwrap();
        for enrolment in [enrolment, again] {
            for (secret, worker, key) in [(&secret, "b", 2), (&used, "a", 1)] {
                let refused = enrolment.redeem(secret, &claim(worker, key), NOW);
                assert!(matches!(refused, Err(EnrolError::RevokedToken)));
            }
            assert!(enrolment.knows(&"a".parse().unwrap()), "it stays");
        }
    }

    #[test]
    fn of_a_copy_no_token_works_that_was_open_when_it_was_made() {
        let (dir, enrolment, secret) = opened();
        let used = enrolment
            .create(NOW, NOW.plus(Duration::from_secs(60)))
            .unwrap();
        enrolment.redeem(&used, &claim("a", 1), NOW).unwrap();
        let copy = dir.path().join("copy");
        fs::copy(dir.path().join("tokens.json"), &copy).unwrap();
        // Then it is used, which the copy does not know of.
        enrolment.redeem(&secret, &claim("b", 2), NOW).unwrap();
        assert_eq!(forget_unused(&copy, NOW).unwrap(), 1);
        let restored = Enrolment::open(&copy).unwrap();
        let stolen = restored.redeem(&secret, &claim("c", 3), NOW);
        assert!(matches!(stolen, Err(EnrolError::UnknownToken)));
        let repeated = restored.redeem(&used, &claim("a", 1), NOW);
        assert!(repeated.is_ok(), "it lets in nobody else");
        assert_eq!(forget_unused(&dir.path().join("none"), NOW).unwrap(), 0);
        fs::write(&copy, "{").unwrap();
        assert_eq!(forget_unused(&copy, NOW).unwrap(), 0);
    }

    #[test]
    fn an_expired_or_foreign_token_is_refused() {
        let (_dir, enrolment, secret) = opened();
        let late = NOW.plus(Duration::from_secs(60));
        let expired = enrolment.redeem(&secret, &claim("a", 1), late);
        assert!(matches!(expired, Err(EnrolError::Expired)));
        let foreign = enrolment.redeem(&Secret([0; 32]), &claim("a", 1), NOW);
        assert!(matches!(foreign, Err(EnrolError::UnknownToken)));
    }

    #[test]
    fn of_two_racing_workers_exactly_one_gets_the_token() {
        let (_dir, enrolment, secret) = opened();
        let won = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..8u8)
                .map(|n| {
                    let (enrolment, secret) = (&enrolment, &secret);
                    let claim = claim(&format!("w{n}"), n);
                    scope.spawn(move || enrolment.redeem(secret, &claim, NOW).is_ok())
                })
                .collect();
            let joined = racers.into_iter().map(|r| r.join().unwrap());
            joined.filter(|won| *won).count()
        });
        assert_eq!(won, 1);
    }

    #[test]
    fn a_worker_id_cannot_be_taken_by_another_key() {
        let (_dir, enrolment, secret) = opened();
        enrolment
            .reserve(&"local".parse().unwrap(), Digest([1; 32]))
            .unwrap();
        let taken = enrolment.redeem(&secret, &claim("local", 2), NOW);
        assert!(matches!(taken, Err(EnrolError::OtherKey { .. })));
        let still_good = enrolment.redeem(&secret, &claim("new", 2), NOW);
        assert!(still_good.is_ok(), "a refusal does not use the token up");
    }

    #[test]
    fn open_tokens_are_bounded_and_expired_ones_make_room() {
        let (_dir, enrolment, _) = opened();
        let end = NOW.plus(Duration::from_secs(60));
        for _ in 1..OPEN_TOKENS_MAX {
            enrolment.create(NOW, end).unwrap();
        }
        let one_more = enrolment.create(NOW, end);
        assert!(matches!(one_more, Err(TokenError::TooMany)));
        enrolment
            .create(end, end.plus(Duration::from_secs(1)))
            .unwrap();
    }

    #[test]
    fn the_file_holds_no_secret_and_a_failed_write_changes_nothing() {
        let (dir, enrolment, secret) = opened();
        let text = fs::read_to_string(dir.path().join("tokens.json")).unwrap();
        let hex = Digest(secret.0).to_string();
        assert!(!text.contains(&hex) && text.contains(&secret.hash().to_string()));
        drop(dir);
        let failed = enrolment.redeem(&secret, &claim("a", 1), NOW);
        assert!(matches!(failed, Err(EnrolError::Store(_))));
        assert!(enrolment.lock().tokens[0].used_by.is_none());
    }

    #[test]
    fn a_damaged_file_is_an_error_that_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.json");
        for text in ["", "{", r#"{"version":9,"tokens":[],"workers":{}}"#] {
            fs::write(&path, text).unwrap();
            let error = Enrolment::open(&path).err().unwrap().to_string();
            assert!(error.contains("remove it"), "{error}");
        }
    }
}
