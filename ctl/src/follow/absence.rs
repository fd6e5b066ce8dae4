//! A head that went away while something is followed: it is asked for until it is back, and whoever
//! waits is told, once each time.

use std::time::Duration;

use orchestra_proto::client::Whereabouts;
use orchestra_types::Timestamp;
use tokio::time::{Instant, sleep_until};
use tonic::{Response, Status};

use crate::{
    client::{Client, is_away, status_error},
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

/// Opens a stream again, however long the head is away.
#[derive(Debug)]
pub struct Absence {
    head: Whereabouts,
    /// None where another stream over the same connection says it.
    voice: Option<Voice>,
    /// What is known of it while it lasts. It outlives the future that waits for its end.
    now: Option<Away>,
}

#[derive(Clone, Copy, Debug)]
struct Away {
    since: Timestamp,
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
            say_at: Some(this + UNSAID_FOR),
            ask_at: this + PAUSE,
            pause: PAUSE,
        }
    }

    fn go_on(&mut self) {
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.ask_at = Instant::now() + self.pause;
    }
}

impl Absence {
    /// Of the head that `client` talks to; `voice` says it.
    pub fn new(client: &Client, voice: Option<Voice>) -> Self {
        Self {
            head: client.head().clone(),
            voice,
            now: None,
        }
    }

    /// What `open` gives when the head is there again. Dropping the future loses nothing.
    pub async fn end<T>(
        &mut self,
        open: impl AsyncFn() -> std::result::Result<Response<T>, Status>,
    ) -> Result<T> {
        loop {
            let away = self.now.get_or_insert_with(Away::begins);
            let ask_at = away.ask_at;
            let asked = async {
                sleep_until(ask_at).await;
                open().await
            };
            let answer = tokio::select! {
                answer = asked => answer,
                () = until(away.say_at) => {
                    away.say_at = None;
                    let since = Time(away.since);
                    self.say(|voice, head| voice.warn(&format!(
                        "the head at {head} cannot be reached since {since}; waiting for it to come back"
                    )));
                    continue;
                }
            };
            match answer {
                Ok(stream) => {
                    self.is_over();
                    return Ok(stream.into_inner());
                }
                Err(status) if is_away(&status) => away.go_on(),
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

    #[tokio::test(start_paused = true)]
    async fn it_lasts_however_long_and_though_the_wait_is_begun_anew_each_second() {
        let mut absence = Absence {
            head: "h:1".into(),
            voice: None,
            now: None,
        };
        let asked = Cell::new(0);
        let back_at = Instant::now() + Duration::from_secs(3600);
        let open = async || {
            asked.set(asked.get() + 1);
            match Instant::now() < back_at {
                true => Err(Status::unavailable("away")),
                false => Ok(Response::new(7)),
            }
        };
        let mut unsaid = 0;
        let opened = loop {
            let second = Duration::from_secs(1);
            match tokio::time::timeout(second, absence.end(open)).await {
                Ok(opened) => break opened.unwrap(),
                Err(_) => unsaid += u32::from(absence.now.unwrap().say_at.is_some()),
            }
        };
        assert_eq!(opened, 7);
        assert!(absence.now.is_none());
        assert!((1..=3).contains(&unsaid), "{unsaid}");
        assert!((1800..1900).contains(&asked.get()), "{}", asked.get());
        let gone = async || Err::<Response<()>, _>(Status::not_found("no such task"));
        assert!(absence.end(gone).await.is_err());
    }
}
