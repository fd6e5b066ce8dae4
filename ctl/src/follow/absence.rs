//! A head that went away while something is followed: it is asked for until it is back, and whoever
//! waits is told, once each time.

use std::{fmt, time::Duration};

use futures::future::BoxFuture;
use orchestra_proto::client::Whereabouts;
use orchestra_types::Timestamp;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Response, Status};

use crate::{
    client::{Client, certificate_trouble, is_away, status_error},
    error::Result,
    json::time::Time,
    ui::{live::Voice, now},
};

/// How long nothing is said: a head that restarts is back sooner.
const UNSAID_FOR: Duration = Duration::from_secs(3);
/// Pause before a stream that ended is opened again.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a later pause is at most.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long one answer is waited for: longer than a connection may take to be made.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// What the head said to a request to open a stream.
type Answer<T> = std::result::Result<Response<T>, Status>;

/// Opens a stream again, however long the head is away.
pub struct Absence<T> {
    head: Whereabouts,
    /// None where another stream over the same connection says it.
    voice: Option<Voice>,
    /// What is known of it while it lasts. It outlives the future that waits for its end.
    now: Option<Away>,
    /// A request that is not answered yet. It outlives that future too: the answer may take longer than
    /// whoever waits goes without a look at other things.
    asked: Option<BoxFuture<'static, Answer<T>>>,
}

#[derive(Clone, Debug)]
struct Away {
    since: Timestamp,
    /// Why it does not answer, where more is known than that.
    why: Option<String>,
    /// When it is to be said; none once it was.
    say_at: Option<Instant>,
    ask_at: Instant,
    pause: Duration,
}

impl Away {
    fn begins() -> Self {
        let this = Instant::now();
        Self {
            since: now(),
            why: None,
            say_at: Some(this + UNSAID_FOR),
            ask_at: this + PAUSE,
            pause: PAUSE,
        }
    }

    fn go_on(&mut self, status: &Status) {
        self.why = certificate_trouble(status).map(|error| format!(" ({error})"));
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.ask_at = Instant::now() + self.pause;
    }
}

impl<T> fmt::Debug for Absence<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Absence");
        fields.field("now", &self.now).finish_non_exhaustive()
    }
}

impl<T: 'static> Absence<T> {
    /// Of the head that `client` talks to; `voice` says it.
    pub fn new(client: &Client, voice: Option<Voice>) -> Self {
        Self {
            head: client.head().clone(),
            voice,
            now: None,
            asked: None,
        }
    }

    /// What `open` gives when the head is there again. Dropping the future loses nothing.
    pub async fn end<F>(&mut self, open: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Answer<T>> + Send + 'static,
    {
        loop {
            let away = self.now.get_or_insert_with(Away::begins);
            let answer = tokio::select! {
                answer = answer(&mut self.asked, away.ask_at, &open) => answer,
                () = until(away.say_at) => {
                    away.say_at = None;
                    let (since, why) = (Time(away.since), away.why.clone().unwrap_or_default());
                    self.say(|voice, head| voice.warn(&format!(
                        "the head at {head} cannot be reached since {since}{why}; waiting for it to come back"
                    )));
                    continue;
                }
            };
            match answer {
                Ok(stream) => {
                    self.is_over();
                    return Ok(stream.into_inner());
                }
                Err(status) if is_away(&status) => away.go_on(&status),
                Err(status) => return Err(status_error(&status)),
            }
        }
    }

    /// The head has answered, here or to another stream that waits no longer than this one.
    pub fn is_over(&mut self) {
        let away = self.now.take();
        if away.is_some_and(|away| away.say_at.is_none()) {
            self.say(|voice, head| voice.next(&format!("the head at {head} is back")));
        }
    }

    fn say(&self, say: impl FnOnce(&Voice, &str)) {
        if let Some(voice) = &self.voice {
            say(voice, &self.head.now());
        }
    }
}

/// The answer to what is asked from `ask_at` on. Dropping the future takes nothing back.
async fn answer<T, F>(
    asked: &mut Option<BoxFuture<'static, Answer<T>>>,
    ask_at: Instant,
    open: impl Fn() -> F,
) -> Answer<T>
where
    F: Future<Output = Answer<T>> + Send + 'static,
{
    if asked.is_none() {
        sleep_until(ask_at).await;
    }
    let pending = asked.get_or_insert_with(|| {
        let answer = timeout(ANSWER_WITHIN, open());
        Box::pin(async {
            answer
                .await
                .unwrap_or_else(|_| Err(Status::unavailable("no answer")))
        })
    });
    let answer = pending.await;
    *asked = None;
    answer
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn absence<T>() -> Absence<T> {
        Absence {
            head: "h:1".into(),
            voice: None,
            now: None,
            asked: None,
        }
    }

    /// As who has a look at something else each second.
    async fn each_second<T: 'static, F>(absence: &mut Absence<T>, open: impl Fn() -> F) -> T
    where
        F: Future<Output = Answer<T>> + Send + 'static,
    {
        loop {
            let second = Duration::from_secs(1);
            if let Ok(opened) = timeout(second, absence.end(&open)).await {
                break opened.unwrap();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_may_take_longer_than_the_one_who_waits_looks_at_nothing_else() {
        let asked = Cell::new(0);
        let open = |takes| {
            asked.set(asked.get() + 1);
            async move {
                tokio::time::sleep(Duration::from_secs(takes)).await;
                Ok(Response::new(7))
            }
        };
        assert_eq!(each_second(&mut absence(), || open(5)).await, 7);
        assert_eq!(asked.get(), 1);
        let never = || open(if asked.get() < 3 { 1_000_000 } else { 1 });
        assert_eq!(each_second(&mut absence(), never).await, 7);
        assert_eq!(asked.get(), 4, "what does not answer is asked again");
    }

    #[tokio::test(start_paused = true)]
    async fn it_lasts_however_long_and_though_the_wait_is_begun_anew_each_second() {
        let mut absence = absence();
        let asked = Cell::new(0);
        let back_at = Instant::now() + Duration::from_secs(3600);
        let open = || {
            asked.set(asked.get() + 1);
            let is_away = Instant::now() < back_at;
            async move {
                match is_away {
                    true => Err(Status::unavailable("away")),
                    false => Ok(Response::new(7)),
                }
            }
        };
        let mut unsaid = 0;
        let opened = loop {
            let second = Duration::from_secs(1);
            match tokio::time::timeout(second, absence.end(&open)).await {
                Ok(opened) => break opened.unwrap(),
                Err(_) => unsaid += u32::from(absence.now.as_ref().unwrap().say_at.is_some()),
            }
        };
        assert_eq!(opened, 7);
        assert!(absence.now.is_none());
        assert!((1..=3).contains(&unsaid), "{unsaid}");
        assert!((1800..1900).contains(&asked.get()), "{}", asked.get());
        let gone = async || Err(Status::not_found("no such task"));
        assert!(absence.end(gone).await.is_err());
    }
}
