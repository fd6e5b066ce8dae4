//! Work that takes long, away from the thread that talks to the head.

use std::{pin::pin, time::Duration};

use orchestra_head::progress::Progress;
use tokio::time::{Instant, interval, timeout};

use crate::{
    app::App,
    error::{Error, Result},
    ui::{
        Ui,
        bar::Bar,
        live::Live,
        style::{Line, Style},
        time::duration,
    },
};

/// What is done sooner is not talked about.
const UNSHOWN_FOR: Duration = Duration::from_secs(1);

/// Runs `work` on another thread.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|e| Error::failed("a part of ctl broke").because(e))?
}

/// Runs `work` on another thread. A person who waits for it sees what is done, a verb and its object, and for how
/// long already.
pub async fn shown<T: Send + 'static>(
    ui: Ui,
    what: impl Into<String>,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let mut work = pin!(blocking(work));
    let began = Instant::now();
    if let Ok(done) = timeout(UNSHOWN_FOR, &mut work).await {
        return done;
    }
    let (what, live) = (what.into(), Live::new(ui));
    let mut second = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = second.tick() => {
                let so_far = duration(began.elapsed());
                live.show(&[Line::of(Style::Dim, format!("{what} · {so_far}"))]);
            }
        }
    }
}

/// Runs `work` on another thread and shows how far it is. Whoever drops this, as Ctrl-C does,
/// cancels it: it sees that nobody waits any more, and leaves nothing half done.
pub async fn watched<T: Send + 'static>(
    app: &App,
    what: &'static str,
    work: impl FnOnce(&Progress) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (progress, mut reached) = Progress::watched();
    let mut bar = Bar::new(app.ui, what);
    let mut work = pin!(blocking(move || work(&progress)));
    loop {
        tokio::select! {
            done = &mut work => return done,
            Ok(()) = reached.changed() => {
                let now = *reached.borrow_and_update();
                bar.show(now.done, now.total);
            }
        }
    }
}
