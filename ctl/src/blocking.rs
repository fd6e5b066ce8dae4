//! Work that takes long, away from the thread that talks to the head.

use orchestra_head::progress::Progress;

use crate::{
    app::App,
    error::{Error, Result},
    ui::bar::Bar,
};

/// Runs `work` on another thread.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|e| Error::failed("a part of ctl broke").because(e))?
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
    let mut work = std::pin::pin!(blocking(move || work(&progress)));
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
